package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v3"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// With returns the configuration as it is when plan is in force: with its services and timeouts,
// and all else as in c.
func (c *Config) With(plan forwarder.Plan) *Config {
	out := *c
	out.Settings = plan.Settings
	out.Services = make([]Service, len(plan.Services))
	for i := range plan.Services {
		p := &plan.Services[i]
		s := Service{Service: p.Service, Realservers: make([]Realserver, len(p.Destinations))}
		if s.Persistence == 0 {
			s.MaskBits = 0 // which means nothing then
		}
		for j := range p.Destinations {
			d := &p.Destinations[j]
			r := Realserver{Address: d.Addr, Weight: d.Weight, Upper: d.Upper, Lower: d.Lower, MAC: c.static[d.Addr]}
			if d.Weight == 0 {
				r.Drain = d.Drain
			}
			if at := c.placed[d.Addr]; at != nil {
				r.Leg = at.Leg
			}
			s.Realservers[j] = r
		}
		out.Services[i] = s
	}
	return &out
}

// YAML writes the configuration as a file that Parse reads as the same. Comments and anchors are
// not kept, and what is not written has its default.
func (c *Config) YAML() ([]byte, error) {
	f := *c.written
	f.IPVS.Timeouts.TCP = timeoutOf(c.Settings.TCPTimeout)
	f.IPVS.Timeouts.TCPFin = timeoutOf(c.Settings.TCPFinTimeout)
	f.IPVS.Timeouts.UDP = timeoutOf(c.Settings.UDPTimeout)
	b := new(bytes.Buffer)
	enc := yaml.NewEncoder(b)
	enc.SetIndent(2)
	if err := enc.Encode(encode(reflect.ValueOf(&f).Elem())); err != nil {
		return nil, fmt.Errorf("the configuration cannot be written: %w", err)
	}
	if len(c.Services) == 0 {
		b.WriteString("services: []\n")
		return b.Bytes(), nil
	}
	b.WriteString("services:\n")
	for i := range c.Services {
		c.Services[i].write(b)
	}
	return b.Bytes(), nil
}

func timeoutOf(d time.Duration) scalar {
	if d == 0 {
		return scalar{}
	}
	return scalar{text: d.String(), set: true}
}

// encode makes the tree of a type of file.go, without what is not set.
func encode(v reflect.Value) *yaml.Node {
	switch v.Kind() {
	case reflect.Pointer:
		return encode(v.Elem())
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, encode(v.Index(i)))
		}
		return n
	case reflect.Struct:
		if s, ok := v.Interface().(scalar); ok {
			return textNode(s.text, s.quoted)
		}
		n := &yaml.Node{Kind: yaml.MappingNode}
		for i, name := range namesOf(v.Type()) {
			if !v.Field(i).IsZero() {
				n.Content = append(n.Content, textNode(name, false), encode(v.Field(i)))
			}
		}
		return n
	case reflect.String:
		return textNode(v.String(), !plainScalar.MatchString(v.String()))
	}
	return textNode(fmt.Sprint(v.Interface()), false)
}

func textNode(text string, quoted bool) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: escape(text)}
	if quoted {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// escape has a text mean itself where variables are replaced.
func escape(s string) string { return strings.ReplaceAll(s, "${", "$${") }

func (s *Service) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "  - name: %s\n", quoted(s.Name))
	if s.Mark != 0 {
		fmt.Fprintf(b, "    mark: %d\n", s.Mark)
	}
	if len(s.Matches) == 1 {
		writeMatch(b, "    ", "    ", s.Matches[0])
	} else {
		b.WriteString("    matches:\n")
		for _, m := range s.Matches {
			writeMatch(b, "      - ", "        ", m)
		}
	}
	fmt.Fprintf(b, "    scheduler: %s\n", quoted(s.Scheduler))
	if names := flagNames(s.Scheduler, s.Options.Flags); len(names) > 0 {
		fmt.Fprintf(b, "    flags: [%s]\n", strings.Join(names, ", "))
	}
	if n := s.Options.TableSize; n != 0 {
		fmt.Fprintf(b, "    table_size: %d\n", n)
	}
	if s.Persistence != 0 {
		fmt.Fprintf(b, "    persistence: %s\n", s.Persistence)
		if s.MaskBits != 0 {
			fmt.Fprintf(b, "    persistence_mask: %d\n", s.MaskBits)
		}
	}
	if s.OnePacket {
		b.WriteString("    one_packet: true\n")
	}
	if s.SlowStart != 0 {
		fmt.Fprintf(b, "    slow_start: %s\n", s.SlowStart)
	}
	if len(s.Realservers) == 0 {
		b.WriteString("    realservers: []\n")
		return
	}
	b.WriteString("    realservers:\n")
	for i := range s.Realservers {
		s.Realservers[i].write(b)
	}
}

func writeMatch(b *bytes.Buffer, first, other string, m forwarder.Match) {
	fmt.Fprintf(b, "%saddress: %s\n", first, addressText(m.Addr))
	if m.Proto != frame.TCP {
		fmt.Fprintf(b, "%sprotocol: %s\n", other, strings.ToLower(m.Proto.String()))
	}
	switch {
	case m.First == m.Last:
		fmt.Fprintf(b, "%sport: %d\n", other, m.First)
	case m.First == 0:
		fmt.Fprintf(b, "%sport: all\n", other)
	default:
		fmt.Fprintf(b, "%sport: \"%d-%d\"\n", other, m.First, m.Last)
	}
}

func (r *Realserver) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "      - {address: %s", addressText(r.Address))
	if r.Weight != 1 {
		fmt.Fprintf(b, ", weight: %d", r.Weight)
	}
	if r.Upper != 0 {
		fmt.Fprintf(b, ", upper: %d", r.Upper)
	}
	if r.Lower != 0 {
		fmt.Fprintf(b, ", lower: %d", r.Lower)
	}
	if r.Drain != 0 {
		fmt.Fprintf(b, ", drain: %s", r.Drain)
	}
	if !r.MAC.IsZero() {
		fmt.Fprintf(b, ", mac: \"%s\"", r.MAC)
	}
	if r.Leg != "" {
		fmt.Fprintf(b, ", leg: %s", quoted(r.Leg))
	}
	b.WriteString("}\n")
}

// flagNames are the words for flags: those of the scheduler, or ipvsadm's for all.
func flagNames(name string, flags scheduler.Flags) (out []string) {
	for i := range 3 {
		if flag := scheduler.Flags(1 << i); flags&flag != 0 {
			at := slices.IndexFunc(flagWords, func(w flagWord) bool { return w.flag == flag && (w.needs == name || w.needs == "") })
			out = append(out, flagWords[at].name)
		}
	}
	return out
}

func addressText(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return strconv.Quote(a.String())
}

var plainScalar = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

// quoted writes text so that YAML reads it as text, whatever it is.
func quoted(s string) string {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
	default:
		if plainScalar.MatchString(s) {
			return s
		}
	}
	return strconv.QuoteToASCII(escape(s))
}
