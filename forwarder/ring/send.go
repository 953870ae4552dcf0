package ring

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

const (
	// burst is how many frames one system call sends at most.
	burst = 64
	// parts is the most pieces that a frame is sent from: header, MAC addresses, tag, rest.
	parts = 4
	// patience is how long one Send waits for a full device, in nanoseconds for each leg; nap is
	// how long at a time.
	patience = 200_000
	nap      = 10_000
)

// out is the sending side of a leg.
type out struct {
	fd    int
	n     int   // frames queued in msgs
	left  int64 // what remains of the patience of this Send
	stuck bool  // the device took nothing for all of our patience, and nothing since
	msgs  [burst]mmsghdr
	iov   [burst][parts]unix.Iovec
	heads [burst][pieceHead]byte // virtio_net_hdr and what follows it, where they are not the frame's own
	wait  [1]unix.PollFd
	ts    unix.Timespec
}

// noHeader goes before frames that bring none: no offloads.
var noHeader [vnetLen]byte

// openOut opens the socket that sends on l. PACKET_QDISC_BYPASS hands the frames to the driver at
// once: a director must not reorder or delay, and a full device is told as ENOBUFS. Taps such as
// tcpdump on this host do not see them.
func (l *leg) openOut(r *resources) error {
	fd, err := packetSocket(r)
	if err != nil {
		return err
	}
	if err := set(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1, "PACKET_VNET_HDR"); err != nil {
		return err
	}
	if err := set(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS"); err != nil {
		return err
	}
	buffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.index}); err != nil {
		return fmt.Errorf("bind the sending socket: %w", err)
	}
	l.tx = fd
	return nil
}

// use has o send by a socket.
func (o *out) use(fd int) {
	o.fd, o.stuck = fd, false
	for i := range o.msgs {
		o.msgs[i].hdr.Iov = &o.iov[i][0]
	}
	o.wait[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
}

// Send transmits the frames, each with its virtio_net_hdr and, if set, its VLAN tag: see
// forwarder.Sink. If a device is full, Send waits for at most 200 microseconds per leg and call.
// After a device was full for that long, Send does not wait for it until it accepts a frame again.
//
// A super-frame whose segments exceed the MTU of its leg is too big, as is a plain frame longer
// than the MTU. A frame for an unknown or closed leg counts as Down.
func (e *Engine) Send(batch []frame.Frame) forwarder.Lost {
	var lost forwarder.Lost
	if !e.owned && !e.own() || e.res.closed { // only the owner itself releases what it owns: no lock is needed
		lost.Down = uint32(len(batch))
		return lost
	}
	for _, l := range e.legs {
		l.out.left = patience
		if l.out.stuck {
			l.out.left = 0
		}
	}
	var c cut
	for i := range batch {
		f := &batch[i]
		l := e.byLeg[f.Out]
		switch {
		case l == nil:
			lost.Down++
		case l.tx < 0:
			lost.Down++
			l.count.down.Add(1)
		case int(f.Head) > len(f.Buf) || f.Head != 0 && f.Head != vnetLen || len(f.Data()) < frame.HeaderLen:
			lost.Refused++
			l.count.refused.Add(1)
		case l.tooLong(f):
			lost.TooBig++
			l.count.tooBig.Add(1)
		case c.cutting(f):
			for last := false; !last; {
				last = l.out.queuePiece(&c)
				e.flushFull(l, &lost)
			}
		default:
			l.out.queue(f)
			e.flushFull(l, &lost)
		}
	}
	for _, l := range e.legs {
		if l.out.n > 0 {
			e.flush(l, &lost)
		}
	}
	if e.latency.stamp != 0 {
		e.latency.end(time.Now().UnixNano())
	}
	return lost
}

// tooLong reports whether f is a super-frame whose segments exceed the MTU. The MTU is read anew
// before it says so.
func (l *leg) tooLong(f *frame.Frame) bool {
	n := segmentLen(f)
	if n <= l.mtu {
		return false
	}
	l.look()
	return n > l.mtu
}

// queue describes f to the kernel, without copying more than its header.
func (o *out) queue(f *frame.Frame) {
	i := o.n
	iov, head := &o.iov[i], &o.heads[i]
	data := f.Data()
	used := 0
	piece := func(b []byte) {
		iov[used].Base = &b[0]
		iov[used].SetLen(len(b))
		used++
	}
	if f.TPID == 0 && f.Head == vnetLen && hostOrder.Uint16(f.Buf[vnetHdrLen:]) <= maxLinear {
		piece(f.Buf)
	} else {
		own := noHeader[:]
		if f.Head == vnetLen {
			own = f.Buf[:vnetLen]
		}
		head := head[:vnetLen+frame.VLANTagLen]
		copy(head, own)
		if n := hostOrder.Uint16(head[vnetHdrLen:]); n > maxLinear {
			hostOrder.PutUint16(head[vnetHdrLen:], maxLinear)
		}
		if f.TPID == 0 {
			piece(head[:vnetLen])
			piece(data)
		} else {
			shift(head)
			head[vnetLen], head[vnetLen+1] = byte(f.TPID>>8), byte(f.TPID)
			head[vnetLen+2], head[vnetLen+3] = byte(f.TCI>>8), byte(f.TCI)
			piece(head[:vnetLen])
			piece(data[:12])
			piece(head[vnetLen:])
			piece(data[12:])
		}
	}
	o.msgs[i].hdr.SetIovlen(used)
	o.n++
}

// queuePiece describes the next piece of a frame to the kernel, without copying its payload, and
// reports whether it is the last.
func (o *out) queuePiece(c *cut) (last bool) {
	iov := &o.iov[o.n]
	head, payload, last := c.next(&o.heads[o.n])
	o.msgs[o.n].hdr.SetIovlen(1)
	iov[0].Base = &head[0]
	iov[0].SetLen(len(head))
	if len(payload) > 0 {
		iov[1].Base = &payload[0]
		iov[1].SetLen(len(payload))
		o.msgs[o.n].hdr.SetIovlen(2)
	}
	o.n++
	return last
}

// flushFull sends what is queued for l if no more can be.
func (e *Engine) flushFull(l *leg, lost *forwarder.Lost) {
	if l.out.n == burst {
		e.flush(l, lost)
	}
}

// flush sends what is queued for l, and counts what could not be sent.
func (e *Engine) flush(l *leg, lost *forwarder.Lost) {
	o := &l.out
	var now forwarder.Lost
	sent, at := 0, 0
	for at < o.n {
		n, errno := sendmmsg(o.fd, o.msgs[at:o.n])
		if n > 0 {
			sent += n
			at += n
			o.stuck = false
			continue
		}
		switch errno {
		case unix.EINTR:
		case unix.ENOBUFS, unix.EAGAIN:
			if l.look(); l.down.Load() { // a device without a carrier takes nothing, and says ENOBUFS
				now.Down += uint32(o.n - at)
				at = o.n
			} else if !e.room(o, errno) {
				o.stuck = true
				now.Full++
				at++
			}
		case unix.EMSGSIZE:
			now.TooBig++
			at++
		case unix.ENETDOWN, unix.ENXIO, unix.ENODEV:
			now.Down += uint32(o.n - at)
			at = o.n
		default:
			now.Refused++
			at++
		}
	}
	o.n = 0
	c := &l.count
	add(&c.sent, sent)
	add(&c.full, now.Full)
	add(&c.tooBig, now.TooBig)
	add(&c.down, now.Down)
	add(&c.refused, now.Refused)
	lost.Full += now.Full
	lost.TooBig += now.TooBig
	lost.Down += now.Down
	lost.Refused += now.Refused
}

// room waits a moment for a full device; false when patience is at its end.
func (e *Engine) room(o *out, errno unix.Errno) bool {
	if o.left <= 0 {
		return false
	}
	start := e.now()
	wait := o.wait[:] // EAGAIN: the socket's own buffer is full, and poll(2) tells when it is not
	if errno == unix.ENOBUFS {
		wait = wait[:0]
	}
	o.ts = unix.NsecToTimespec(min(nap, o.left))
	_, _ = unix.Ppoll(wait, &o.ts, nil)
	o.left -= max(e.now()-start, 1000)
	return true
}
