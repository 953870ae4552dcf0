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

// sendmmsg sends the messages in order and returns how many were sent; if not all, the next one is the one that could
// not be sent, and the call that starts with it tells why. It does not allocate. The runtime is told of the system
// call, so that a garbage collection need not wait for it.
func sendmmsg(fd int, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
