package ring

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32 // padded to the alignment of hdr, as C does
}

// sendmmsg sends the messages in order and returns how many were sent; if not all, the next one is
// the one that could not be sent, and the call that starts with it tells why. It does not allocate.
//
// The call does not wait, and the runtime is not told of it: otherwise its monitor takes the
// processor away from us whenever 64 frames take longer than 20 us, which they always do, and gives
// it to a thread that it wakes for that. The price is that a garbage collection waits for the end
// of the call, some 100 us, before it stops the others.
func sendmmsg(fd int, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// yield is sched_yield(2).
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// doze waits for an event of some files for a short time, which is not told to the runtime either.
func doze(fds []unix.PollFd, ts *unix.Timespec) {
	_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), uintptr(unsafe.Pointer(ts)), 0, 0, 0)
}
