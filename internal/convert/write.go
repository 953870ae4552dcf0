package convert

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shunt/internal/config"
	"shunt/scheduler"
)

// placeholder is the interface where the file does not tell one.
const placeholder = "eth0"

// write makes the configuration. It is what `shunt check` accepts, or the error says why not.
func (r *result) write(source, iface string) ([]byte, error) {
	r.judge()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Made from %s by `shunt convert`.\n", oneLine(source))
	r.writeLegs(&b, iface)
	r.writeTimeouts(&b)
	live := 0
	b.WriteString("services:\n")
	for _, s := range r.services {
		if len(s.refused) == 0 {
			live++
		}
		s.write(&b)
	}
	r.sortNotes()
	if live == 0 {
		return b.Bytes(), errors.New("the file has no service that shunt can serve")
	}
	if _, err := config.Parse("the result", b.Bytes()); err != nil {
		return b.Bytes(), fmt.Errorf("the result must be corrected manually: %w", err)
	}
	return b.Bytes(), nil
}

// sortNotes puts the notes in order of lines, and takes away those that say the same. Files are in
// the order in which they were first spoken of.
func (r *result) sortNotes() {
	order := map[string]int{}
	for _, n := range r.notes {
		if _, known := order[n.File]; !known {
			order[n.File] = len(order)
		}
	}
	slices.SortStableFunc(r.notes, func(x, y Note) int { return cmp.Or(order[x.File]-order[y.File], x.Line-y.Line) })
	seen := map[Note]bool{}
	r.notes = slices.DeleteFunc(r.notes, func(n Note) bool {
		defer func() { seen[n] = true }()
		return seen[n]
	})
}

// writeTimeouts writes those that the file changes.
func (r *result) writeTimeouts(b *bytes.Buffer) {
	var set []string
	for _, t := range []struct {
		name string
		n    float64
	}{{"tcp", r.timeouts.TCP}, {"tcpfin", r.timeouts.TCPFin}, {"udp", r.timeouts.UDP}} {
		if t.n > 0 {
			set = append(set, fmt.Sprintf("%s: %d", t.name, int(t.n)))
		}
	}
	if len(set) > 0 {
		fmt.Fprintf(b, "ipvs:\n  timeouts: {%s}\n", strings.Join(set, ", "))
	}
}

// writeLegs names the interface that has the VIPs, if it is known.
func (r *result) writeLegs(b *bytes.Buffer, iface string) {
	comment := ""
	if iface == "" {
		for _, s := range r.services {
			addr := s.Address
			if len(s.matches) > 0 {
				addr = s.matches[0].Addr()
			}
			if name := r.ifaces[addr]; name != "" {
				iface = name
				comment = "  # as the VIPs had it; if the realservers are behind another, add that as a second leg"
				break
			}
		}
	}
	if iface == "" {
		iface = placeholder
		comment = "  # to be looked at: which interface have clients and realservers in front of them?"
	}
	fmt.Fprintf(b, "legs:\n  - interface: %s%s\n", quote(iface), comment)
}

// write writes a service, as a comment if it was refused.
func (s *service) write(out *bytes.Buffer) {
	var b strings.Builder
	fmt.Fprintf(&b, "  # %s:%d\n", oneLine(s.file), s.line)
	proto := strings.ToLower(s.Protocol)
	switch {
	case len(s.matches) > 0:
		fmt.Fprintf(&b, "  - mark: %d\n    matches:\n", s.Mark)
		for _, m := range s.matches {
			fmt.Fprintf(&b, "      - {address: %s, protocol: %s, port: %s}\n", quote(m.Addr().String()), proto, port(m.Port()))
		}
	case s.Mark != 0:
		fmt.Fprintf(&b, "  - mark: %d\n    matches: [{address: VIP, port: PORT}]\n", s.Mark)
	default:
		fmt.Fprintf(&b, "  - address: %s\n    protocol: %s\n    port: %s\n", quote(s.Address.String()), proto, port(s.Port))
	}
	s.writeSettings(&b)
	b.WriteString("    realservers:\n")
	for i := range s.reals {
		s.reals[i].write(&b)
	}
	text := b.String()
	if len(s.refused) > 0 {
		text = "  # Not converted: " + oneLine(strings.Join(s.refused, "; ")) + "\n"
		for line := range strings.Lines(b.String()) {
			text += "  #" + strings.TrimPrefix(line, " ")
		}
	}
	out.WriteString(text)
}

// port writes a port, of which 0 is all.
func port(n uint16) string {
	if n == 0 {
		return "all"
	}
	return fmt.Sprint(n)
}

// writeSettings writes how a service schedules.
func (s *service) writeSettings(b *strings.Builder) {
	fmt.Fprintf(b, "    scheduler: %s\n", quote(s.Scheduler))
	var flags []string
	if s.Flags&uint8(scheduler.Fallback) != 0 {
		flags = append(flags, s.Scheduler+"-fallback")
	}
	if s.Flags&uint8(scheduler.Port) != 0 {
		flags = append(flags, s.Scheduler+"-port")
	}
	if len(flags) > 0 {
		fmt.Fprintf(b, "    flags: [%s]\n", strings.Join(flags, ", "))
	}
	if s.Persistence > 0 {
		fmt.Fprintf(b, "    persistence: %d\n", int(s.Persistence))
		if s.MaskBits != 0 {
			fmt.Fprintf(b, "    persistence_mask: %d\n", s.MaskBits)
		}
	}
	if s.OnePacket {
		b.WriteString("    one_packet: true\n")
	}
}

func (x *real) write(b *strings.Builder) {
	comment := ""
	if x.refused != "" {
		fmt.Fprintf(b, "      # not converted: %s\n", oneLine(x.refused))
		comment = "#"
	}
	fmt.Fprintf(b, "      %s- {address: %s, weight: %d", comment, quote(x.Address.String()), x.Weight)
	if x.Upper > 0 {
		fmt.Fprintf(b, ", upper: %d", x.Upper)
	}
	if x.Lower > 0 {
		fmt.Fprintf(b, ", lower: %d", x.Lower)
	}
	b.WriteString("}\n")
}

// quote writes text such that YAML takes it for text: plain where that is safe, else as JSON does.
func quote(s string) string {
	plain := s != "" && strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_')
	}) < 0
	_, err := netip.ParseAddr(s)
	if plain && (err == nil || s[0] >= 'a' && s[0] <= 'z' && s != "true" && s != "false" && s != "null" && s != "yes" && s != "no" && s != "on" && s != "off") {
		return s
	}
	b, _ := json.Marshal(s)
	return string(b)
}

// oneLine makes text fit for a comment.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == 0x85 || c == 0x2028 || c == 0x2029 {
			return ' '
		}
		return c
	}, s)
}
