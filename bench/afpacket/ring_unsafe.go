package afpacket

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// word is the 32-bit word at off, which the kernel shares.
func word(mem []byte, off int) *uint32 {
	return (*uint32)(unsafe.Pointer(unsafe.SliceData(mem[off : off+4])))
}

func load(mem []byte, off int) uint32     { return atomic.LoadUint32(word(mem, off)) }
func store(mem []byte, off int, v uint32) { atomic.StoreUint32(word(mem, off), v) }

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// A Queue gathers frames for one sendmmsg. It copies nothing: what is queued must stay as it is
// until Flush.
type Queue struct {
	fd   int
	n    int
	msgs [64]mmsghdr
	iov  [64]unix.Iovec
}

// NewQueue sends on a packet socket.
func NewQueue(fd int) *Queue {
	q := &Queue{fd: fd}
	for i := range q.msgs {
		q.msgs[i].hdr.Iov = &q.iov[i]
		q.msgs[i].hdr.SetIovlen(1)
	}
	return q
}

// Add queues a frame, and sends when 64 have come together.
func (q *Queue) Add(b []byte) error {
	q.iov[q.n].Base = unsafe.SliceData(b)
	q.iov[q.n].SetLen(len(b))
	if q.n++; q.n == len(q.msgs) {
		return q.Flush()
	}
	return nil
}

// Flush sends what is queued, however long it takes.
func (q *Queue) Flush() error {
	for at := 0; at < q.n; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(q.fd), uintptr(unsafe.Pointer(&q.msgs[at])), uintptr(q.n-at), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			at += int(n)
		case unix.EAGAIN, unix.ENOBUFS, unix.EINTR:
		default:
			return errno
		}
	}
	q.n = 0
	return nil
}
