package director

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// runOn binds the calling thread, which is that of worker i, to a processor. The goroutine is
// locked to the thread before: the Go runtime then makes no thread of it, which would have the same
// processor.
func runOn(i, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("ring.cpus: worker %d cannot run on processor %d: %w; `nproc` and `taskset -p $$` show the usable processors", i, cpu, err)
	}
	return nil
}

// tryProcessors binds the calling thread to each of the processors in turn, so that one that is not
// there is known before anything is done. The thread gets the processors back that it had. It must
// not be left to end with its goroutine instead: the first thread of a process never ends, and
// would keep the last processor.
func tryProcessors(cpus []int) (err error) {
	if len(cpus) == 0 {
		return nil
	}
	runtime.LockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("the processors of this process cannot be read: %w", err)
	}
	defer func() {
		if back := unix.SchedSetaffinity(0, &before); back == nil {
			runtime.UnlockOSThread() // otherwise nobody else is to have this thread
		} else if err == nil {
			err = fmt.Errorf("ring.cpus: the previous processors cannot be restored after the start: %w", back)
		}
	}()
	for i, cpu := range cpus {
		if err := runOn(i, cpu); err != nil {
			return err
		}
	}
	return nil
}
