package replayrun

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/replay"
)

// A Report is what there is to tell of a replay. Its JSON form is for scripts: names stay.
type Report struct {
	Capture     Capture      `json:"capture"`
	Sent        Sent         `json:"sent"`
	Realservers []Realserver `json:"realservers"`
	Services    []Service    `json:"services"`
	Verdicts    []Verdict    `json:"verdicts"`
	Table       Table        `json:"table"`
	Busiest     []Crowded    `json:"busiest,omitempty"` // if nothing was for a service: what the packets were for
	Speed       *Speed       `json:"speed,omitempty"`

	all bool // the text lists everything
}

// Capture describes the capture that was read.
type Capture struct {
	File       string  `json:"file"`
	Format     string  `json:"format"`
	Compressed bool    `json:"compressed"`
	Packets    uint64  `json:"packets"`
	Bytes      uint64  `json:"bytes"` // on the wire
	First      string  `json:"first,omitempty"`
	Last       string  `json:"last,omitempty"`
	Seconds    float64 `json:"seconds"`
	Skipped    uint64  `json:"skipped"`    // not Ethernet
	StepsBack  uint64  `json:"steps_back"` // with an earlier time than one before
	// Offload counts the packets that were taken as their network card would have sent them; nil if
	// there are none.
	Offload *replay.Offload `json:"offload,omitempty"`
	// Damage is why the rest of the capture cannot be read; Packets is how many came before.
	Damage string `json:"damage,omitempty"`
}

// damage notes why the capture was not read to its end.
func (c *Capture) damage(err *replay.DamageError) {
	if err != nil {
		c.Damage = fmt.Sprintf("packet %d: %v", err.Packet, err.Err)
	}
}

// Sent counts the sent frames.
type Sent struct {
	File    string `json:"file,omitempty"`
	Frames  uint64 `json:"frames"`
	Bytes   uint64 `json:"bytes"`
	Echoes  uint64 `json:"echo_replies"` // of the frames: the director's own
	Answers uint64 `json:"answers"`      // of the frames: the director's own, unreachables and resets
	Limited uint64 `json:"answers_limited"`
}

// Realserver is a realserver to which frames were sent.
type Realserver struct {
	Address netip.Addr `json:"address"`
	MAC     string     `json:"mac"`
	Origin  string     `json:"mac_origin"` // configured or derived
	Leg     string     `json:"leg"`
}

// Service is a virtual service; bytes are of IP packets, as IPVS counts.
type Service struct {
	Name        string        `json:"name"`
	Virtual     string        `json:"virtual"`
	Scheduler   string        `json:"scheduler"`
	Flows       uint64        `json:"flows"`
	Packets     uint64        `json:"packets"`
	Bytes       uint64        `json:"bytes"`
	Realservers []Destination `json:"realservers"`

	matches []string // of which Virtual is made
}

// Destination is a realserver of a service.
type Destination struct {
	Address netip.Addr `json:"address"`
	Weight  int32      `json:"weight"`
	Flows   uint64     `json:"flows"`
	Share   float64    `json:"share_percent"` // of the service's flows
	Packets uint64     `json:"packets"`
	Bytes   uint64     `json:"bytes"`
}

// Verdict is the number of packets with a verdict. All counts add up to the packets read.
type Verdict struct {
	Name    string `json:"name"`
	Count   uint64 `json:"count"`
	Meaning string `json:"meaning"`

	verdict forwarder.Verdict
}

func newVerdict(v forwarder.Verdict, n uint64) Verdict { return Verdict{v.String(), n, v.Meaning(), v} }

// Table is the connection table after the last packet.
type Table struct {
	Open      int     `json:"open"` // flows, templates not included
	Templates int     `json:"templates"`
	States    []State `json:"states"`
	Created   uint64  `json:"created"` // flows and templates, as are the next three
	Expired   uint64  `json:"expired"`
	Evicted   uint64  `json:"evicted"`
	Refused   uint64  `json:"refused"`
	Capacity  int     `json:"capacity"`
	Memory    int     `json:"memory_bytes"`
}

// State counts the open flows of one state.
type State struct {
	Proto string `json:"protocol"`
	State string `json:"state"`
	Flows int    `json:"flows"`
}

// Speed is the speed of a replay, which differs between runs.
type Speed struct {
	Seconds float64 `json:"seconds"`
	Frames  float64 `json:"frames_per_second"`
}

func newSpeed(packets uint64, took time.Duration) *Speed {
	s := max(took.Seconds(), 1e-9)
	return &Speed{Seconds: s, Frames: float64(packets) / s}
}

// newReport gathers the counters of an engine that has stopped.
func newReport(opt *Options, b *built, in replay.Stats, out *output) *Report {
	st := b.engine.Stats()
	r := &Report{all: opt.All, Realservers: b.realservers, Verdicts: []Verdict{}}
	r.Capture = newCapture(opt, in)
	r.Sent = Sent{File: opt.Output, Frames: out.count.Frames, Bytes: out.count.Bytes, Echoes: st.Verdicts[forwarder.Echoed],
		Answers: st.Answered, Limited: st.Limited}
	for v := range forwarder.NumVerdicts {
		if n := st.Verdicts[v]; n > 0 {
			r.Verdicts = append(r.Verdicts, newVerdict(v, n))
		}
	}
	r.services(b)
	r.Table = newTable(b.engine, &st)
	return r
}

func newCapture(opt *Options, in replay.Stats) Capture {
	c := Capture{File: opt.Input, Format: in.Format, Compressed: in.Compressed, Packets: in.Packets, Bytes: in.Bytes,
		Skipped: in.Skipped, StepsBack: in.StepsBack}
	if in.Offload != (replay.Offload{}) {
		c.Offload = &in.Offload
	}
	if in.Packets > 0 {
		c.First, c.Last = utc(in.First).Format(time.RFC3339Nano), utc(in.Last).Format(time.RFC3339Nano)
		c.Seconds = time.Duration(in.Last - in.First).Seconds()
	}
	return c
}

func utc(ns int64) time.Time { return time.Unix(0, ns).UTC() }

func (r *Report) services(b *built) {
	for _, info := range b.engine.Services() {
		key := info.Key()
		m := matches(&info.Service)
		s := Service{Name: b.names[key], Virtual: strings.Join(m, ", "), matches: m, Scheduler: info.Scheduler, Flows: info.Counts.Flows,
			Packets: info.Counts.Packets, Bytes: info.Counts.Bytes}
		for _, d := range slices.Backward(info.Destinations) { // in the order of the file
			dest := Destination{Address: d.Addr, Weight: d.Weight, Flows: d.Counts.Flows, Packets: d.Counts.Packets, Bytes: d.Counts.Bytes}
			dest.Share = share(dest.Flows, s.Flows)
			s.Realservers = append(s.Realservers, dest)
		}
		r.Services = append(r.Services, s)
	}
}

// share is a part in percent, to one place.
func share(part, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return math.Round(float64(part)*1000/float64(all)) / 10
}

// matches writes what a service answers for: its key, or its addresses if it is a group.
func matches(s *forwarder.Service) (parts []string) {
	if k := s.Key(); k.Mark == 0 && k.Name == "" {
		return []string{k.String()}
	}
	for _, m := range s.Matches {
		parts = append(parts, matchName(m))
	}
	return parts
}

func newTable(e *forwarder.Engine, st *forwarder.Stats) Table {
	t := Table{Created: st.Table.Created, Expired: st.Table.Expired, Evicted: st.Table.Evicted, Refused: st.Table.Refused,
		Capacity: st.Capacity, Memory: st.Memory, States: []State{}}
	counts := map[State]int{}
	e.Connections(func(c forwarder.ConnectionInfo) bool {
		if c.Template {
			t.Templates++
		} else {
			t.Open++
			counts[State{Proto: c.Proto, State: c.State}]++
		}
		return true
	})
	for s, n := range counts {
		s.Flows = n
		t.States = append(t.States, s)
	}
	slices.SortFunc(t.States, func(a, b State) int {
		return strings.Compare(a.Proto+" "+a.State, b.Proto+" "+b.State)
	})
	return t
}

// WriteJSON writes the report for scripts.
func (r *Report) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
