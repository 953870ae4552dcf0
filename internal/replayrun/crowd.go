package replayrun

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// crowdsShown is how many of the busiest destinations a report names.
const crowdsShown = 5

// Crowded is a busy destination of a capture.
type Crowded struct {
	Address  netip.Addr `json:"address"`
	Protocol string     `json:"protocol"`
	Port     uint16     `json:"port"`
	Packets  uint64     `json:"packets"`
}

// A crowd is a Source that notes what the packets of another are for: whoever replays a capture
// with a configuration that has none of its addresses wants to know which it has.
type crowd struct {
	forwarder.Source
	seen map[vport]*visits
}

// visits counts the packets to an address and port.
type visits struct {
	all   uint64
	lower uint64 // of them, those whose destination has the lower port: mostly towards the server
	opens bool   // a TCP connection was opened to it
}

func newCrowd(src forwarder.Source) *crowd { return &crowd{src, map[vport]*visits{}} }

// Next implements forwarder.Source.
func (c *crowd) Next(batch []frame.Frame) (n int, now int64, err error) {
	n, now, err = c.Source.Next(batch)
	for i := range batch[:n] {
		var p frame.Packet
		if frame.Parse(&batch[i], &p) == frame.OK && p.L4 != 0 && p.Proto != frame.ICMP && p.Proto != frame.ICMPv6 {
			c.note(&p)
		}
	}
	return n, now, err
}

func (c *crowd) note(p *frame.Packet) {
	at := vport{p.Dst, p.Proto, p.DstPort}
	v := c.seen[at]
	if v == nil {
		if len(c.seen) >= cacheRoom {
			return // what comes so late is not the busiest
		}
		v = &visits{}
		c.seen[at] = v
	}
	v.all++
	if p.DstPort < p.SrcPort {
		v.lower++
	}
	v.opens = v.opens || p.Proto == frame.TCP && p.TCPFlags&(frame.SYN|frame.ACK) == frame.SYN
}

// busiest lists the destinations with the most packets that look like services, the busiest first.
func (c *crowd) busiest() (list []Crowded) {
	for at, v := range c.seen {
		n := v.lower
		if v.opens {
			n = v.all
		}
		if n > 0 {
			list = append(list, Crowded{at.addr.Netip(), strings.ToLower(at.proto.String()), at.port, n})
		}
	}
	slices.SortFunc(list, func(a, b Crowded) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return list[:min(len(list), crowdsShown)]
}

// matched reports whether a packet was for a service, or could not be read so far.
func (r *Report) matched() bool {
	for _, v := range r.Verdicts {
		switch v.verdict {
		case forwarder.NotIP, forwarder.NotOurs, forwarder.OtherProto, forwarder.NoService, forwarder.Runt, forwarder.BadHeader,
			forwarder.BadChecksum, forwarder.Echoed, forwarder.ICMPIgnored, forwarder.NoICMPFlow:
		default:
			return true
		}
	}
	return false
}

// crowds tells what to write into a configuration for the capture.
func (r *Report) crowds(b *strings.Builder) {
	if len(r.Busiest) == 0 {
		return
	}
	t := grid{{"Address", "Protocol", "Port", "Packets"}}
	for _, c := range r.Busiest {
		t = append(t, []string{c.Address.String(), c.Protocol, number(uint64(c.Port)), number(c.Packets)})
	}
	b.WriteString("\nNo packet was for a service of this configuration. Busiest destinations of the capture:\n")
	t.write(b, "23")
	b.WriteString("\nAs services in a configuration, with your realservers:\n\n")
	for _, c := range r.Busiest {
		fmt.Fprintf(b, "  - {address: %q, protocol: %s, port: %d, realservers: [{address: REALSERVER}]}\n", c.Address, c.Protocol, c.Port)
	}
}
