package arpd

import (
	"net/netip"
	"sync"
	"time"

	"shunt/forwarder/frame"
)

// A Responder answers for a set of virtual addresses. SetVIPs and ChangeVIPs are safe for
// concurrent use. All other methods belong to the goroutine that reads the interface.
type Responder struct {
	// Silent has it send nothing: it only notices who claims the addresses.
	Silent bool

	mu       sync.RWMutex // guards vips
	vips     map[netip.Addr]struct{}
	defended map[netip.Addr]time.Time
}

// defendInterval is how often a conflict is answered by an announcement (RFC 5227, 2.4:
// DEFEND_INTERVAL). More often, two who defend the same address would do nothing else.
const defendInterval = 10 * time.Second

// NewResponder returns a Responder without addresses.
func NewResponder() *Responder {
	r := &Responder{defended: map[netip.Addr]time.Time{}}
	r.SetVIPs(nil)
	return r
}

// SetVIPs replaces the addresses that are answered for.
func (r *Responder) SetVIPs(vips []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vips = make(map[netip.Addr]struct{}, len(vips))
	for _, v := range vips {
		r.vips[v] = struct{}{}
	}
}

// ChangeVIPs adds and removes addresses.
func (r *Responder) ChangeVIPs(add, remove []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range add {
		r.vips[v] = struct{}{}
	}
	for _, v := range remove {
		delete(r.vips, v)
	}
}

// owns reports whether addr is a VIP.
func (r *Responder) owns(addr netip.Addr) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.vips[addr]
	return ok
}

// Handle processes a received message. If send is true, answer must be sent. conflict reports that
// the sender claims one of the VIPs. mac is the MAC of the interface.
func (r *Responder) Handle(m *Message, mac frame.MAC, now time.Time) (answer Message, send, conflict bool) {
	if m.SenderMAC == mac {
		return Message{}, false, false // our own, come back
	}
	if r.Silent {
		return Message{}, false, r.owns(m.Sender)
	}
	if r.owns(m.Sender) {
		if last, ok := r.defended[m.Sender]; !ok || now.Sub(last) >= defendInterval {
			r.defended[m.Sender] = now
			return announcement(mac, m.Sender, false), true, true
		}
		return Message{}, false, true
	}
	if m.Reply || !r.owns(m.Target) {
		return Message{}, false, false
	}
	// A probe of somebody who wants to take the VIP is answered like any other request: that keeps
	// him from it.
	answer = Message{
		Reply: true, SenderMAC: mac, Sender: m.Target, TargetMAC: m.SenderMAC, Target: m.Sender, Source: mac, Destination: m.SenderMAC,
	}
	if m.Sender.Is6() && m.Sender.IsUnspecified() {
		answer.Destination = Broadcast // he has no address yet that it could go to (RFC 4861, 7.2.4)
	}
	return answer, true, false
}
