package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shunt/forwarder/frame"
	"shunt/internal/netlab"
)

// vip is the address that the page came from.
func (p *Page) vip() netip.Addr {
	if p.V6 {
		return netip.MustParseAddr(VIP6)
	}
	return netip.MustParseAddr(VIP)
}

// A hop is one end of a wire at which a frame was seen.
type hop struct {
	label  string
	file   string // of the capture
	toHost bool
}

// ways returns the hops of a request and of its reply, for realserver web.
func (n *Network) ways(web string) (there, back []hop) {
	if n.Topology == "one-arm" {
		return []hop{
				{"client   -> switch", "client", false},
				{"switch   -> director", "director", true},
				{"director -> switch", "director", false},
				{"switch   -> " + web, web, true},
			}, []hop{
				{web + "     -> switch", web, false},
				{"switch   -> client", "client", true},
			}
	}
	return []hop{
			{"client   -> public switch", "client", false},
			{"public switch  -> director", "director-public", true},
			{"director -> private switch", "director-private", false},
			{"private switch -> " + web, web, true},
		}, []hop{
			{web + "     -> private switch", web, false},
			{"private switch -> router", "router-private", true},
			{"router   -> public switch", "router-public", false},
			{"public switch  -> client", "client", true},
		}
}

// directorPorts are the captures at the director's legs.
func (n *Network) directorPorts() []string {
	if n.Topology == "one-arm" {
		return []string{"director"}
	}
	return []string{"director-public", "director-private"}
}

// captured is what all ports saw.
type captured map[string][]netlab.Record

// packet parses a record; nil if it is no IP packet that the parser understands.
func packet(r *netlab.Record) *frame.Packet {
	f := frame.Frame{Buf: r.Data, Wire: int32(r.Length)}
	p := new(frame.Packet)
	if frame.Parse(&f, p) != frame.OK {
		return nil
	}
	return p
}

// of returns the frames at a hop that keep says yes to.
func (c captured) of(h hop, keep func(*frame.Packet) bool) []netlab.Record {
	var out []netlab.Record
	for _, r := range c[h.file] {
		if r.ToHost != h.toHost {
			continue
		}
		if p := packet(&r); p != nil && keep(p) {
			out = append(out, r)
		}
	}
	return out
}

// request says yes to the client's packets of one connection to the VIP, reply to those the other
// way.
func request(vip netip.Addr, port uint16) func(*frame.Packet) bool {
	a := frame.AddrFrom(vip)
	return func(p *frame.Packet) bool { return p.Dst == a && p.SrcPort == port }
}

func reply(vip netip.Addr, port uint16) func(*frame.Packet) bool {
	a := frame.AddrFrom(vip)
	return func(p *frame.Packet) bool { return p.Src == a && p.DstPort == port }
}

// line describes a frame at a hop.
func line(h hop, r *netlab.Record) string {
	f := frame.Frame{Buf: r.Data}
	p := packet(r)
	return fmt.Sprintf("%-28s %s > %s   %s > %s  %s", h.label, f.Src(), f.Dst(),
		netip.AddrPortFrom(p.Src.Netip(), p.SrcPort), netip.AddrPortFrom(p.Dst.Netip(), p.DstPort), flags(p.TCPFlags))
}

func flags(b uint8) string {
	var out []string
	for _, f := range []struct {
		bit  uint8
		name string
	}{{frame.SYN, "SYN"}, {frame.FIN, "FIN"}, {frame.RST, "RST"}, {frame.PSH, "PSH"}, {frame.ACK, "ACK"}} {
		if b&f.bit != 0 {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, "+")
}

// compared is what following the frames of a connection through the director found.
type compared struct {
	frames  int
	wrong   []string
	ownMAC  int // frames whose source MAC became the director's
	sameMAC int // frames whose source MAC was preserved
}

// follow compares each frame that a connection sent to the director with what came out of it and
// what the realserver got: from the EtherType on they must be the same bytes.
func (n *Network) follow(c captured, page Page, mac string) compared {
	port, web := page.Port, page.From
	var out compared
	there, _ := n.ways(web)
	seen := make([][]netlab.Record, len(there))
	for i, h := range there {
		seen[i] = c.of(h, request(page.vip(), port))
		if len(seen[i]) != len(seen[0]) {
			out.wrong = append(out.wrong, fmt.Sprintf("port %d: %d frames at %q, but %d at %q", port, len(seen[0]), there[0].label, len(seen[i]), h.label))
		}
	}
	if len(out.wrong) > 0 {
		return out
	}
	for j := range there[1:] {
		seen[j+1] = paired(seen[0], seen[j+1])
	}
	for i := range seen[0] {
		out.frames++
		first := seen[0][i]
		for j := range there {
			if !alike(&seen[j][i], &first) {
				out.wrong = append(out.wrong, fmt.Sprintf("port %d: frame %d changed at %q beyond its MACs", port, i+1, there[j].label))
			}
		}
		in, left, got := frame.Frame{Buf: seen[1][i].Data}, frame.Frame{Buf: seen[2][i].Data}, frame.Frame{Buf: seen[3][i].Data}
		if in.Dst().String() != DirectorMAC || left.Dst().String() != mac || got.Dst() != left.Dst() || got.Src() != left.Src() {
			out.wrong = append(out.wrong, fmt.Sprintf("port %d: frame %d went from %s to %s, not from %s to %s", port, i+1, in.Dst(), left.Dst(), DirectorMAC, mac))
		}
		switch left.Src() {
		case in.Src():
			out.sameMAC++
		default:
			out.ownMAC++
		}
	}
	return out
}

// alike reports whether two records are of the same frame, but for its MACs.
func alike(a, b *netlab.Record) bool {
	return a.Length == b.Length && bytes.Equal(a.Data[12:], b.Data[12:])
}

// paired puts the records of a hop, which are as many, in the order of those of the first one:
// frames that a host sends from several processors may overtake each other on their way. What has
// no counterpart comes in the places that are left.
func paired(first, hop []netlab.Record) []netlab.Record {
	out, left := make([]netlab.Record, len(hop)), slices.Clone(hop)
	var open []int
	for i := range first {
		j := slices.IndexFunc(left, func(r netlab.Record) bool { return alike(&r, &first[i]) })
		if j < 0 {
			open = append(open, i)
			continue
		}
		out[i] = left[j]
		left = slices.Delete(left, j, j+1)
	}
	for k, i := range open {
		out[i] = left[k]
	}
	return out
}
