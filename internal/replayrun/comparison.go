package replayrun

import (
	"cmp"
	"io"
	"net/netip"
	"slices"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
)

// A Comparison is the difference between the decisions of two configurations. The names in its JSON
// form are stable.
type Comparison struct {
	Capture   Capture             `json:"capture"`
	First     Side                `json:"first"`
	Second    Side                `json:"second"`
	Flows     Changes             `json:"flows"`
	Templates Changes             `json:"templates"` // those that are open after the last packet
	Services  []ServiceComparison `json:"services"`
	Moved     []MovedFlow         `json:"moved"`
	LeftOut   uint64              `json:"moved_left_out"` // moved flows that are not listed
	Verdicts  []VerdictPair       `json:"verdicts"`
	Speed     *Speed              `json:"speed,omitempty"`

	all bool // the text lists everything
}

// Side is one of the two configurations.
type Side struct {
	Config      string       `json:"config"`
	Realservers []Realserver `json:"realservers"`
	Table       Table        `json:"table"`
}

// Changes counts flows, or templates, by the effect of a configuration change.
type Changes struct {
	All        uint64 `json:"all"`
	Alike      uint64 `json:"alike"`
	Moved      uint64 `json:"moved"`
	OnlyFirst  uint64 `json:"only_first"`
	OnlySecond uint64 `json:"only_second"`
}

// ServiceComparison is the difference for the flows of one service.
type ServiceComparison struct {
	Name        string                 `json:"name"`
	Flows       Changes                `json:"flows"`
	Changes     []Change               `json:"changes"`
	Realservers []RealserverComparison `json:"realservers"`
}

// The kinds of changes.
const (
	changeMoved      = "moved"
	changeOnlyFirst  = "only_first"
	changeOnlySecond = "only_second"
)

// Change is a number of flows with the same difference between the two sides. First and Second are
// the address of a realserver or, without one, the verdict on the flow's first packet.
type Change struct {
	Kind   string  `json:"kind"`
	First  string  `json:"first"`
	Second string  `json:"second"`
	Flows  uint64  `json:"flows"`
	Share  float64 `json:"share_percent"` // of the service's flows
}

// RealserverComparison is what a realserver gets from a service; a side is nil that does not have
// it.
type RealserverComparison struct {
	Address netip.Addr   `json:"address"`
	First   *Destination `json:"first"`
	Second  *Destination `json:"second"`
}

// MovedFlow is a flow that the second configuration sends to another realserver.
type MovedFlow struct {
	Time    string  `json:"time"`    // when the second of the two sides chose
	Seconds float64 `json:"seconds"` // likewise, since the first packet of the capture
	Service string  `json:"service"`
	Proto   string  `json:"protocol"`
	Client  string  `json:"client"`
	Virtual string  `json:"virtual"`
	First   string  `json:"first"`
	Second  string  `json:"second"`
}

// VerdictPair counts packets by their verdicts on both sides. All counts add up to the packets
// read.
type VerdictPair struct {
	First  string `json:"first"`
	Second string `json:"second"`
	Count  uint64 `json:"count"`
}

// move lists a moved flow, as far as they are to be listed.
func (p *pair) move(t *frame.Tuple, c *cell, at int64) {
	if p.limit >= 0 && len(p.moved) >= p.limit {
		p.leftOut++
		return
	}
	p.moved = append(p.moved, MovedFlow{
		Time: utc(at).Format(time.RFC3339Nano), Seconds: time.Duration(at - p.start).Seconds(), Service: p.names[c.service],
		Proto: t.Proto.String(), Client: netip.AddrPortFrom(t.Src.Netip(), t.SrcPort).String(),
		Virtual: netip.AddrPortFrom(t.Dst.Netip(), t.DstPort).String(), First: p.name(c.places[0]), Second: p.name(c.places[1]),
	})
}

// name writes a place for the report.
func (p *pair) name(at place) string {
	if at.served() {
		return p.addresses[at].String()
	}
	return at.verdict().String()
}

// newComparison gathers what two sides have come to that have stopped.
func newComparison(opt *CompareOptions, p *pair, in replay.Stats) *Comparison {
	c := &Comparison{all: opt.All, Capture: newCapture(&opt.Options, in), LeftOut: p.leftOut, Moved: p.moved, Verdicts: []VerdictPair{},
		First: p.sides[0].report(), Second: p.sides[1].report(), Templates: p.templates()}
	if c.Moved == nil {
		c.Moved = []MovedFlow{}
	}
	c.services(p)
	for a := range forwarder.NumVerdicts {
		for b := range forwarder.NumVerdicts {
			if n := p.verdicts[a][b]; n > 0 {
				c.Verdicts = append(c.Verdicts, VerdictPair{a.String(), b.String(), n})
			}
		}
	}
	return c
}

func (s *side) report() Side {
	st := s.engine.Stats()
	r := s.realservers
	if r == nil {
		r = []Realserver{}
	}
	return Side{Config: s.path, Realservers: r, Table: newTable(s.engine, &st)}
}

// services counts the flows of each service, and lists what its realservers got.
func (c *Comparison) services(p *pair) {
	c.Services = make([]ServiceComparison, len(p.names))
	for i, name := range p.names {
		c.Services[i] = ServiceComparison{Name: name, Changes: []Change{}, Realservers: []RealserverComparison{}}
	}
	for at, n := range p.cells {
		s := &c.Services[at.service]
		if kind := s.Flows.add(at.places, n); kind != "" {
			s.Changes = append(s.Changes, Change{Kind: kind, First: p.name(at.places[0]), Second: p.name(at.places[1]), Flows: n})
		}
		c.Flows.add(at.places, n)
	}
	p.destinations(c)
	kinds := []string{changeMoved, changeOnlyFirst, changeOnlySecond}
	for i := range c.Services {
		s := &c.Services[i]
		for j := range s.Changes {
			s.Changes[j].Share = share(s.Changes[j].Flows, s.Flows.All)
		}
		slices.SortFunc(s.Changes, func(a, b Change) int { // the largest first
			return cmp.Or(slices.Index(kinds, a.Kind)-slices.Index(kinds, b.Kind), cmp.Compare(b.Flows, a.Flows),
				cmp.Compare(a.First, b.First), cmp.Compare(a.Second, b.Second))
		})
	}
}

// add counts flows, and names the change if it is one.
func (c *Changes) add(at [2]place, n uint64) (kind string) {
	c.All += n
	switch first, second := at[0], at[1]; {
	case first == second:
		c.Alike += n
	case first.served() && second.served():
		c.Moved += n
		return changeMoved
	case first.served():
		c.OnlyFirst += n
		return changeOnlyFirst
	default:
		c.OnlySecond += n
		return changeOnlySecond
	}
	return ""
}

// destinations tells what each realserver of each service got, in the order of the first file, then
// of the second.
func (p *pair) destinations(c *Comparison) {
	for i, s := range p.sides {
		var r Report
		r.services(s.built)
		for j := range r.Services {
			to := &c.Services[s.services[s.listed[j].Key()].number]
			for k := range r.Services[j].Realservers {
				d := &r.Services[j].Realservers[k]
				n := slices.IndexFunc(to.Realservers, func(x RealserverComparison) bool { return x.Address == d.Address })
				if n < 0 {
					n = len(to.Realservers)
					to.Realservers = append(to.Realservers, RealserverComparison{Address: d.Address})
				}
				if i == 0 {
					to.Realservers[n].First = d
				} else {
					to.Realservers[n].Second = d
				}
			}
		}
	}
}

// templates compares where clients' persistence leads at the end of the capture.
func (p *pair) templates() Changes {
	type key struct {
		service         int
		proto           string
		client, virtual netip.AddrPort
	}
	found := map[key][2]place{}
	for i, s := range p.sides {
		s.engine.Connections(func(c forwarder.ConnectionInfo) bool {
			svc := s.services[c.Service]
			// Port 65535 is how one is shown that no new flow may use.
			if !c.Template || svc == nil || c.Destination.Port() == 65535 && c.Virtual.Port() != 65535 {
				return true
			}
			k := key{svc.number, c.Proto, c.Client, c.Virtual}
			if c.Service.Mark != 0 || c.Service.Name != "" {
				k.virtual = netip.AddrPort{} // the number of a group is nobody's business, and may differ
			}
			at, ok := found[k]
			if !ok {
				at = [2]place{refusal(0), refusal(0)}
			}
			at[i] = p.place(c.Destination.Addr())
			found[k] = at
			return true
		})
	}
	var c Changes
	for _, at := range found {
		c.add(at, 1)
	}
	return c
}

// WriteJSON writes the comparison for scripts.
func (c *Comparison) WriteJSON(w io.Writer) error { return writeJSON(w, c) }
