package ring

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// Frames that are larger than a slot: the kernel puts the whole frame into the socket's queue as
// well (packet(7), PACKET_COPY_THRESH), marks the slot with TP_STATUS_COPY and does both under one
// lock, so that queue and ring have the same order.
const (
	// giantSize holds the largest frame of GSO without BIG TCP, with its header and two VLAN tags.
	giantSize = 68 << 10
	// hugeSize holds the largest frame of BIG TCP: GSO_MAX_SIZE of the kernel is 8*65535 bytes
	// (linux/netdevice.h).
	hugeSize = 516 << 10
	// giantCount is how many giants of giantSize are lent in one batch at least; a batch ends
	// before there may be no room for the next.
	giantCount = 64
	// giantBytes is the memory for them. The kernel gives only what is touched.
	giantBytes = giantCount*giantSize + hugeSize
	// queueBytes bounds what waits in the socket's queue, by the kernel's reckoning of memory
	// (SO_RCVBUF).
	queueBytes = 16 << 20
)

// giants lends buffers from one piece of memory.
type giants struct {
	mem  []byte
	used int
}

// left reports whether there is room for any frame.
func (g *giants) left() bool { return g.used+hugeSize <= len(g.mem) }

// fetch reads from the queue of socket fd the frame that slot s holds the start of, and returns it
// with its virtio_net_hdr, or nil if it cannot be had whole. There must be room left.
func (g *giants) fetch(fd int, s *slot, ring []byte) []byte {
	buf := g.mem[g.used:][:hugeSize:hugeSize]
	n, err := readFrame(fd, buf)
	if err != nil {
		return nil
	}
	// If ever a frame was lost from the queue, its neighbours must not be taken for each other.
	start := ring[s.start:s.end]
	if n == vnetLen+s.wire && bytes.HasPrefix(buf[vnetLen:n], start[vnetLen:]) {
		g.used += (n + 63) &^ 63 // the next one begins at a cache line
		return buf[:n:n]
	}
	if n < len(buf) {
		// Slots whose frame is thrown away here are truncated, and the two are in step again after
		// them.
		drain(fd)
	}
	return nil
}

// readFrame reads one frame from the socket's queue without waiting; what does not fit into buf is
// lost. An error that another event left on the socket (ENETDOWN) is passed over.
func readFrame(fd int, buf []byte) (int, error) {
	var n int
	var err error
	for range 4 {
		n, err = unix.Read(fd, buf)
		if err == nil || err == unix.EAGAIN {
			break
		}
	}
	return n, err
}

// drain empties the socket's queue.
func drain(fd int) {
	var b [1]byte
	for range 1 << 16 {
		if _, err := readFrame(fd, b[:]); err != nil {
			return
		}
	}
}
