package arpd

import (
	"net/netip"
	"time"

	"shunt/forwarder/frame"
)

// Times of announcements. A new VIP is announced several times, since a frame may get lost (RFC 5227, 2.3 has two of
// them two seconds apart).
const (
	announceFirst = 3
	announceGap   = time.Second
)

// An Announcer says when to tell the network where the VIPs are, and to ask whether somebody else answers for one. It is
// not safe for several goroutines.
type Announcer struct {
	period time.Duration
	vips   map[netip.Addr]*announced
	order  []netip.Addr
}

type announced struct {
	left int // of the first announcements
	next time.Time
}

// NewAnnouncer returns an Announcer that repeats its announcements after each period; 0 is never.
func NewAnnouncer(period time.Duration) *Announcer {
	return &Announcer{period: period, vips: map[netip.Addr]*announced{}}
}

// SetVIPs replaces the addresses. New ones are announced at once.
func (a *Announcer) SetVIPs(vips []netip.Addr, now time.Time) {
	old := a.vips
	a.vips, a.order = map[netip.Addr]*announced{}, nil
	for _, v := range vips {
		if a.vips[v] != nil {
			continue
		}
		if a.vips[v] = old[v]; old[v] == nil {
			a.vips[v] = &announced{left: announceFirst, next: now}
		}
		a.order = append(a.order, v)
	}
}

// Again has all addresses announced at once, as when the interface was down.
func (a *Announcer) Again(now time.Time) {
	for _, v := range a.vips {
		v.left, v.next = announceFirst, now
	}
}

// Due returns the messages to send by now, and when to ask again; the zero time is never.
func (a *Announcer) Due(mac frame.MAC, now time.Time) (out []Message, next time.Time) {
	for _, addr := range a.order {
		v := a.vips[addr]
		if v.next.IsZero() {
			continue
		}
		if !v.next.After(now) {
			// The probe comes first: whoever else has the address on his host answers it, though he would not answer the
			// announcement.
			out = append(out, probe(mac, addr), announcement(mac, addr, false))
			if addr.Is4() {
				out = append(out, announcement(mac, addr, true))
			}
			switch v.left--; {
			case v.left > 0:
				v.next = now.Add(announceGap)
			case a.period > 0:
				v.left = 0
				v.next = now.Add(a.period)
			default:
				v.left, v.next = 0, time.Time{}
				continue
			}
		}
		next = sooner(next, v.next)
	}
	return out, next
}

// sooner is the earlier of two times, of which the zero one is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
