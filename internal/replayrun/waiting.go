package replayrun

import (
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// A fragment that comes before the first of its datagram has no verdict until that comes, and then
// gets the same. The engines count it as a fragment meanwhile, and so does the matrix of verdicts:
// here is what to put right then.

// datagram names a datagram as the engines do.
type datagram struct {
	src, dst frame.Addr
	id       uint32
	proto    frame.Proto
}

// late are the fragments of one datagram that have come too early.
type late struct {
	until    int64
	verdicts [][2]forwarder.Verdict
}

type waiting map[datagram]*late

// Bounds that the engines have, too: they hold far fewer, and none for longer than this.
const (
	waitingRoom = 4096
	wait4       = 30 * time.Second
	wait6       = 60 * time.Second
)

// fragment notes a fragment, or puts right the counts of those that have waited for it.
func (p *pair) fragment(packet *frame.Packet, v [2]forwarder.Verdict, now int64) {
	d := datagram{packet.Src, packet.Dst, packet.FragID, packet.Proto}
	wait := wait4
	if packet.V6 {
		d.proto, wait = 0, wait6
	}
	l := p.waiting[d]
	if l != nil && l.until <= now {
		delete(p.waiting, d)
		l = nil
	}
	switch {
	case packet.FragOff == 0 && l != nil:
		for _, was := range l.verdicts {
			is := was
			for i := range is {
				if is[i] == forwarder.Fragment {
					is[i] = v[i]
				}
			}
			p.verdicts[was[0]][was[1]]--
			p.verdicts[is[0]][is[1]]++
		}
		delete(p.waiting, d)
	case packet.FragOff != 0 && (v[0] == forwarder.Fragment || v[1] == forwarder.Fragment):
		if l == nil {
			if !p.waiting.fit(now) {
				return
			}
			if p.waiting == nil {
				p.waiting = waiting{}
			}
			l = &late{until: now + wait.Nanoseconds()}
			p.waiting[d] = l
		}
		if len(l.verdicts) < waitingRoom {
			l.verdicts = append(l.verdicts, v)
		}
	}
}

// fit makes room for one more datagram, and reports whether there is.
func (w waiting) fit(now int64) bool {
	if len(w) < waitingRoom {
		return true
	}
	for d, l := range w {
		if l.until <= now {
			delete(w, d)
		}
	}
	return len(w) < waitingRoom
}
