package frame

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseTuple parses the format of Tuple.String: "TCP 192.0.2.7:40000 > 203.0.113.10:80". Upper and
// lower case are equal, the spaces around > are optional, and IPv6 addresses are in brackets. Both
// addresses must have the same family.
func ParseTuple(s string) (Tuple, error) {
	const form = `write it as "tcp 192.0.2.7:40000 > 203.0.113.10:80"`
	proto, rest, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok {
		return Tuple{}, fmt.Errorf("%q is not a protocol and two addresses: %s", s, form)
	}
	var t Tuple
	for _, p := range []Proto{TCP, UDP, SCTP} {
		if strings.EqualFold(proto, p.String()) {
			t.Proto = p
		}
	}
	if t.Proto == 0 {
		return Tuple{}, fmt.Errorf("%q is not a protocol with ports: write tcp, udp or sctp", proto)
	}
	from, to, ok := strings.Cut(rest, ">")
	if !ok {
		return Tuple{}, fmt.Errorf("%q has no >: %s", s, form)
	}
	src, err := netip.ParseAddrPort(strings.TrimSpace(strings.TrimSuffix(from, "-")))
	if err != nil {
		return Tuple{}, fmt.Errorf("%q is not an address and a port: %s", strings.TrimSpace(from), form)
	}
	dst, err := netip.ParseAddrPort(strings.TrimSpace(to))
	if err != nil {
		return Tuple{}, fmt.Errorf("%q is not an address and a port: %s", strings.TrimSpace(to), form)
	}
	if src.Addr().Unmap().Is4() != dst.Addr().Unmap().Is4() {
		return Tuple{}, fmt.Errorf("%s and %s are of different families", src.Addr(), dst.Addr())
	}
	t.Src, t.SrcPort, t.Dst, t.DstPort = AddrFrom(src.Addr()), src.Port(), AddrFrom(dst.Addr()), dst.Port()
	return t, nil
}
