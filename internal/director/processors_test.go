package director

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// masks lists the processors of each thread of this process that is not bound as the process is.
func masks(t *testing.T, usual *unix.CPUSet) (other []string) {
	t.Helper()
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	want := allowed(t, "/proc/self/task/"+filepath.Base(threads[0]))
	for _, path := range threads {
		if got := allowed(t, path); got != "" && got != want {
			other = append(other, filepath.Base(path)+" has "+got)
		}
	}
	if usual.Count() == 1 {
		return nil // all are alike on such a machine
	}
	return other
}

// allowed is the processors of a thread; empty if it has ended.
func allowed(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path + "/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return strings.TrimSpace(list)
		}
	}
	t.Fatalf("%s tells no processors", path)
	return ""
}

func processors(t *testing.T) (set unix.CPUSet, first int) {
	t.Helper()
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	for !set.IsSet(first) {
		first++
	}
	return set, first
}

// Trying the processors leaves no thread behind that is bound to one, whichever thread tried; the
// first one of the process too.
func TestTriedProcessorsAreGivenBack(t *testing.T) {
	set, cpu := processors(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := tryProcessors([]int{cpu}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if other := masks(t, &set); len(other) > 0 {
		t.Errorf("%d threads are still bound: %v", len(other), other)
	}
	if err := tryProcessors([]int{cpu, 1023}); err == nil || !strings.Contains(err.Error(), "worker 1 cannot run on processor 1023") {
		t.Errorf("processor 1023: %v", err)
	}
	if other := masks(t, &set); len(other) > 0 {
		t.Errorf("after a processor that is not there: %v", other)
	}
}

// A worker that is bound to a processor is the only thread that is: those that the runtime makes
// meanwhile, for system calls that block and for the garbage collector, are not made of it.
func TestThreadsBesideABoundWorker(t *testing.T) {
	set, cpu := processors(t)
	stop, bound, ended := make(chan struct{}), make(chan int), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		if err := runOn(0, cpu); err != nil {
			t.Error(err)
		}
		defer func() { // the thread may be the process's first, which does not end
			if unix.SchedSetaffinity(0, &set) == nil {
				runtime.UnlockOSThread()
			}
		}()
		bound <- unix.Gettid()
		var calls sync.WaitGroup
		for {
			select {
			case <-stop:
				calls.Wait()
				return
			default:
			}
			calls.Go(func() { _ = unix.Nanosleep(&unix.Timespec{Nsec: 3e6}, nil) })
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 2e5}, nil) // the runtime takes the processor away, and another thread goes on
		}
	}()
	worker := <-bound
	for range 20 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
		threads, _ := filepath.Glob("/proc/self/task/*")
		path := filepath.Join("/proc/self/task", strconv.Itoa(worker))
		mine := allowed(t, path)
		for _, other := range slices.DeleteFunc(threads, func(p string) bool { return filepath.Base(p) == strconv.Itoa(worker) }) {
			if got := allowed(t, other); got == mine && set.Count() > 1 {
				t.Fatalf("thread %s of %d is bound to processor %s, as the worker is", filepath.Base(other), len(threads), got)
			}
		}
	}
	close(stop)
	<-ended
}
