package doctor

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// A stranger is an address outside of the realservers' networks. A realserver that is pinged from
// it answers by its default route, as it answers a client.
type stranger struct {
	addr netip.Addr
	kind strangerKind
}

type strangerKind int

const (
	noStranger strangerKind = iota
	// named by whoever runs the doctor.
	named
	// own of this host: the gateway brings here what is for it.
	own
	// near a VIP, so that the gateway brings here what is for it, if it has an interface in the
	// VIP's network: it asks who has the address, and the doctor answers. Nobody else may have it.
	near
	// abroad is of a network for documentation. What goes to it by the gateway does not come back;
	// what comes here instead does.
	abroad
)

// lent reports whether the doctor answers for the address: the kernel does not.
func (s *stranger) lent() bool { return s.kind == near || s.kind == named }

// documentation lists networks in which there is no host (RFC 5737, RFC 3849).
var documentation = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("2001:db8:ffff:ffff::/64"), netip.MustParsePrefix("2001:db8:fffe:fffe::/64")}

// nearby is how many addresses near a VIP are asked for.
const nearby = 6

// network is that in which a realserver's neighbours are, as far as this host knows.
func (f *facts) network(leg frame.Leg, rip netip.Addr) netip.Prefix {
	best := netip.Prefix{}
	for _, p := range append(slices.Clone(f.legs[leg].nets), f.legs[leg].cfg.Networks...) {
		if p.Contains(rip) && p.Bits() < p.Addr().BitLen() && (!best.IsValid() || p.Bits() < best.Bits()) {
			best = p
		}
	}
	if !best.IsValid() {
		bits := 24
		if rip.Is6() {
			bits = 64
		}
		best = netip.PrefixFrom(rip, bits)
	}
	return best.Masked()
}

// inside reports whether an address is in the network of a realserver.
func (f *facts) inside(a netip.Addr) bool {
	return slices.ContainsFunc(f.neighbours, func(n forwarder.Neighbour) bool {
		return n.Addr.Is6() == a.Is6() && f.network(n.Leg, n.Addr).Contains(a)
	})
}

// taken reports whether an address is known to be somebody's.
func (f *facts) taken(a netip.Addr) bool {
	_, mine := f.own[a]
	return mine || slices.Contains(f.cfg.VIPs(), a) || slices.ContainsFunc(f.neighbours, func(n forwarder.Neighbour) bool { return n.Addr == a })
}

// candidates chooses addresses near the VIPs that may be nobody's: of IPv4 among the sixteen that
// differ from a VIP in the last bits, of IPv6 at random in its /64. Each run chooses others, so
// that no neighbour remembers them. They are outside of the realservers' networks.
func (f *facts) candidates() (out []netip.Addr) {
	count := map[bool]int{}
	for _, v := range f.cfg.VIPs() {
		if count[v.Is6()] >= nearby || f.from(v.Is6()).kind != noStranger {
			continue
		}
		for _, a := range around(v) {
			if count[v.Is6()] < nearby && !f.taken(a) && !f.inside(a) && !slices.Contains(out, a) {
				out = append(out, a)
				count[v.Is6()]++
			}
		}
	}
	return out
}

// around lists addresses in what is most likely the network of a VIP, in random order.
func around(v netip.Addr) (out []netip.Addr) {
	if v.Is6() {
		b := v.As16()
		for range nearby {
			for i := 8; i < 16; i++ {
				b[i] = byte(rand.Uint32())
			}
			b[8] = b[8]&^3 | 2 // no address that was made of a MAC
			out = append(out, netip.AddrFrom16(b))
		}
		return out
	}
	b := v.As4()
	last := b[3]
	for _, i := range rand.Perm(16) {
		if b[3] = last ^ byte(i); i != 0 && b[3] != 0 && b[3] != 255 {
			out = append(out, netip.AddrFrom4(b))
		}
	}
	return out
}

// from is the address of a family that needs no search: one that was named, or one of this host's.
func (f *facts) from(v6 bool) stranger {
	if f.fromNobody {
		return stranger{}
	}
	if a := f.fromAddr; a.IsValid() && a.Is6() == v6 {
		if _, mine := f.own[a]; mine {
			return stranger{a, own}
		}
		return stranger{a, named}
	}
	for _, i := range f.public() {
		l := &f.legs[i]
		for _, p := range l.nets {
			a := p.Addr()
			if a.Is6() == v6 && l.usable() && !a.IsLinkLocalUnicast() && !f.inside(a) && !slices.Contains(f.cfg.VIPs(), a) {
				return stranger{a, own}
			}
		}
	}
	return stranger{}
}

// stranger chooses the address of a family, after the candidates were asked for. free are those for
// which nobody answered.
func (f *facts) stranger(v6 bool, free []netip.Addr) stranger {
	if s := f.from(v6); s.kind != noStranger || f.fromNobody {
		return s
	}
	for _, a := range free {
		if a.Is6() == v6 {
			return stranger{a, near}
		}
	}
	for _, p := range documentation {
		if a := p.Addr().Next(); a.Is6() == v6 && !f.inside(a) && !f.taken(a) {
			return stranger{a, abroad}
		}
	}
	return stranger{}
}

// setFrom takes over what was named by --from, if it is outside of the realservers' networks.
func (f *facts) setFrom(o *Options) error {
	a, err := o.from()
	switch f.fromNobody = o.From == fromNone; {
	case err != nil:
		return err
	case slices.Contains(f.cfg.VIPs(), a):
		return fmt.Errorf("--from %s is a VIP, which realservers have, too: name an address that no host has", a)
	case a.IsValid() && f.inside(a):
		return fmt.Errorf("--from %s is in the realservers' network, which they reach without the gateway: name an address outside it", a)
	}
	f.fromAddr = a
	return nil
}
