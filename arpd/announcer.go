package arpd

import (
	"net/netip"
	"slices"
	"time"

	"shunt/forwarder/frame"
)

// Times of announcements. A new VIP is announced several times, since a frame may get lost (RFC
// 5227, 2.3 has two of them two seconds apart).
const (
	announceFirst = 3
	announceGap   = time.Second
)

// An Announcer decides when to announce the VIPs to the network, and when to send requests for them
// to detect other hosts that answer. It is not safe for concurrent use.
type Announcer struct {
	// Watch is the interval between requests for each address, which detect other hosts that answer
	// for it. 0 sends requests only with the announcements.
	Watch time.Duration
	// Silent has it ask for the addresses, and announce none: where they are not to be, but
	// watched.
	Silent bool

	period time.Duration
	vips   map[netip.Addr]*announced
	order  []*announced
	from   int // where in the order Due begins, so that the last come to their turn when there are too many
}

type announced struct {
	addr  netip.Addr
	left  int       // of the first announcements
	next  time.Time // announcement; zero is never
	probe time.Time // question, if none comes with an announcement before; zero is never
}

// atMost bounds the questions at a time, so that many addresses are not asked for in one burst; the
// rest follows after probeGap. Announcements are bounded likewise: ten thousand addresses are
// announced within half a second.
const (
	atMost       = 64
	probeGap     = 50 * time.Millisecond
	announceMost = 100
	announceRest = 5 * time.Millisecond
)

// NewAnnouncer returns an Announcer that repeats its announcements at the given period; 0 disables
// repetition.
func NewAnnouncer(period time.Duration) *Announcer {
	return &Announcer{period: period, vips: map[netip.Addr]*announced{}}
}

// SetVIPs replaces the addresses. New addresses are announced at once.
func (a *Announcer) SetVIPs(vips []netip.Addr, now time.Time) {
	old := a.vips
	a.vips, a.order, a.from = make(map[netip.Addr]*announced, len(vips)), make([]*announced, 0, len(vips)), 0
	for _, v := range vips {
		if a.vips[v] != nil {
			continue
		}
		if a.vips[v] = old[v]; old[v] == nil {
			a.vips[v] = &announced{addr: v}
			a.begin(a.vips[v], now)
		}
		a.order = append(a.order, a.vips[v])
	}
}

// ChangeVIPs adds and removes addresses. Added addresses are announced at once.
func (a *Announcer) ChangeVIPs(add, remove []netip.Addr, now time.Time) {
	for _, addr := range remove {
		delete(a.vips, addr)
	}
	if len(remove) > 0 {
		a.order = slices.DeleteFunc(a.order, func(v *announced) bool { return a.vips[v.addr] == nil })
		a.from = 0
	}
	for _, addr := range add {
		if a.vips[addr] == nil {
			v := &announced{addr: addr}
			a.begin(v, now)
			a.vips[addr] = v
			a.order = append(a.order, v)
		}
	}
}

// Again schedules the announcement of all addresses at once, as after the interface was down.
func (a *Announcer) Again(now time.Time) {
	for _, v := range a.order {
		a.begin(v, now)
	}
}

func (a *Announcer) begin(v *announced, now time.Time) {
	v.left, v.next, v.probe = announceFirst, now, time.Time{}
	if a.Silent {
		v.left, v.next, v.probe = 0, time.Time{}, now
	}
}

// Due returns the messages due at now, and the time of the next call; the zero time is never.
func (a *Announcer) Due(mac frame.MAC, now time.Time) (out []Message, next time.Time) {
	asked, told, from := 0, 0, a.from
	for i := range a.order {
		at := (from + i) % len(a.order)
		v := a.order[at]
		addr := v.addr
		switch {
		case !v.next.IsZero() && !v.next.After(now) && told == announceMost:
			if next.IsZero() || next.After(now.Add(announceRest)) {
				next = now.Add(announceRest)
			}
			if a.from == from {
				a.from = at
			}
			continue
		case !v.next.IsZero() && !v.next.After(now):
			told++
			// The probe comes first: whoever else has the address on his host answers it, though he
			// would not answer the announcement.
			out = append(out, probe(mac, addr), announcement(mac, addr, false))
			if addr.Is4() {
				out = append(out, announcement(mac, addr, true))
			}
			v.left, v.next = a.after(v.left-1, now)
			v.probe = a.watchAt(now)
		case v.probe.IsZero() || v.probe.After(now):
		case asked == atMost:
			v.probe = now.Add(probeGap)
		default:
			asked++
			out = append(out, probe(mac, addr))
			v.probe = a.watchAt(now)
		}
		next = sooner(next, sooner(v.next, v.probe))
	}
	return out, next
}

// after is when to announce again with so many of the first announcements left.
func (a *Announcer) after(left int, now time.Time) (int, time.Time) {
	switch {
	case left > 0:
		return left, now.Add(announceGap)
	case a.period > 0:
		return 0, now.Add(a.period)
	}
	return 0, time.Time{}
}

func (a *Announcer) watchAt(now time.Time) time.Time {
	if a.Watch == 0 {
		return time.Time{}
	}
	return now.Add(a.Watch)
}

// sooner is the earlier of two times, of which the zero one is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
