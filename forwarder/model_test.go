package forwarder_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// The model is a director as one would write it in an afternoon: a map of flows that is searched
// from end to end, counts that are made by counting, timeouts that are looked at each time.

// modelState is what a TCP segment of a client makes of a flow, as far as a director of direct
// routing gets to see. What is not here leaves the state as it is.
var modelState = map[string]map[string]string{
	"SYN": {"NONE": "SYN_RECV", "FIN_WAIT": "SYN_RECV"}, // from TIME_WAIT and CLOSE the flow begins anew
	"ACK": {"SYN_RECV": "ESTABLISHED"},
	"FIN": {"SYN_RECV": "TIME_WAIT", "ESTABLISHED": "FIN_WAIT"},
	"RST": {"ESTABLISHED": "CLOSE", "FIN_WAIT": "CLOSE", "TIME_WAIT": "CLOSE"},
	"":    {"SYN_RECV": "CLOSE", "ESTABLISHED": "CLOSE", "FIN_WAIT": "CLOSE", "TIME_WAIT": "CLOSE"},
}

var modelTimeout = map[string]time.Duration{"SYN_RECV": 60, "ESTABLISHED": 900, "FIN_WAIT": 120, "TIME_WAIT": 120, "CLOSE": 10, "UDP": 300}

var modelFlags = map[string]uint8{"SYN": frame.SYN, "ACK": frame.ACK, "FIN": frame.FIN | frame.ACK, "RST": frame.RST, "": 0}

type modelFlow struct {
	server   int
	state    string
	deadline int64 // in ticks
	packets  uint32
}

func (f *modelFlow) active() bool { return f.state == "SYN_RECV" || f.state == "ESTABLISHED" }

// modelService is round robin over realservers, newest first.
type modelService struct {
	servers []int
	weights map[int]int32
	last    int // the one chosen last
	flows   map[int]uint64
}

func (s *modelService) choose() int {
	start := slices.Index(s.servers, s.last) + 1
	for _, n := range append(slices.Clone(s.servers[start:]), s.servers[:start]...) {
		if s.weights[n] > 0 {
			s.last = n
			s.flows[n]++
			return n
		}
	}
	return 0
}

type modelKey struct {
	talk
	proto frame.Proto
}

type model struct {
	now       int64 // in nanoseconds
	services  map[string]*modelService
	flows     map[modelKey]*modelFlow
	datagrams map[modelDatagram]*modelPieces
}

// modelDatagram tells datagrams apart whose fragments come. Ports do not: only the first fragment
// has them.
type modelDatagram struct {
	client netip.Addr
	id     uint16
}

// modelPieces are the fragments of a datagram that have come, of three that it has.
type modelPieces struct {
	got     [3]bool
	decided bool // the first has come
	server  int
	until   int64
}

// fragment returns the realservers that go out when a fragment comes: its own, and those of the
// fragments before it that waited for the first.
func (m *model) fragment(s *modelService, talk talk, id uint16, piece int) (out []int) {
	k := modelDatagram{talk.client.Addr(), id}
	d := m.datagrams[k]
	if d == nil {
		d = &modelPieces{until: m.now + int64(30*time.Second)}
		if talk.virtual.Addr().Is6() {
			d.until = m.now + int64(60*time.Second)
		}
		m.datagrams[k] = d
	}
	if d.got[piece] {
		return nil // it came before
	}
	d.got[piece] = true
	waiting := 0
	if piece == 0 {
		for _, got := range d.got[1:] {
			if got {
				waiting++
			}
		}
		d.decided, d.server = true, m.packet(s, modelKey{talk, frame.UDP}, "")
	}
	if d.got == [3]bool{true, true, true} {
		delete(m.datagrams, k)
	}
	if !d.decided || d.server == 0 {
		return nil
	}
	return slices.Repeat([]int{d.server}, 1+waiting)
}

// problem returns the realserver that an ICMP error about a flow goes to, 0 for none. It leaves no
// trace.
func (m *model) problem(k modelKey) int {
	if f := m.flows[k]; f != nil {
		return f.server
	}
	return 0
}

// wholeSteps rounds to the steps, of four ticks, in which an exact engine counts ended flows out.
func wholeSteps(d time.Duration) time.Duration {
	return (d + 4*flow.Tick - 1) / (4 * flow.Tick) * (4 * flow.Tick)
}

func ticks(ns int64) int64 { return ns / int64(flow.Tick) }

func (m *model) timeout(state string) int64 {
	return ticks(m.now) + ticks(int64(modelTimeout[state]*time.Second)+int64(flow.Tick)-1)
}

func (m *model) expire() {
	for k, f := range m.flows {
		if f.deadline <= ticks(m.now) {
			delete(m.flows, k)
		}
	}
	for k, d := range m.datagrams {
		if d.until <= m.now {
			delete(m.datagrams, k)
		}
	}
}

// packet returns the realserver that a packet goes to, 0 for none.
func (m *model) packet(s *modelService, k modelKey, segment string) int {
	f := m.flows[k]
	if f != nil && segment == "SYN" && (f.state == "TIME_WAIT" || f.state == "CLOSE") && k.proto == frame.TCP {
		delete(m.flows, k)
		f = nil
	}
	if f == nil {
		if k.proto == frame.TCP && segment != "SYN" {
			return 0
		}
		n := s.choose()
		if n == 0 {
			return 0
		}
		f = &modelFlow{server: n, state: "NONE"}
		m.flows[k] = f
	}
	if k.proto == frame.UDP {
		f.state = "UDP"
	} else if next, ok := modelState[segment][f.state]; ok {
		f.state = next
	}
	f.packets++
	f.deadline = m.timeout(f.state)
	return f.server
}

// list writes the flows as the engine's are written below.
func (m *model) list() (lines []string) {
	for k, f := range m.flows {
		lines = append(lines, fmt.Sprintf("%v %v > %v: realserver %d, %s, %d packets, %d ticks", k.proto, k.client, k.virtual,
			f.server, f.state, f.packets, f.deadline-ticks(m.now)))
	}
	slices.Sort(lines)
	return lines
}

func engineList(r *rig) (lines []string) {
	for _, c := range r.conns() {
		b := c.Destination.Addr().AsSlice()
		lines = append(lines, fmt.Sprintf("%v %v > %v: realserver %d, %s, %d packets, %d ticks", c.Proto, c.Client, c.Virtual,
			b[len(b)-1], c.State, c.Packets, ticks(int64(c.Expires))))
	}
	slices.Sort(lines)
	return lines
}

// TestModel lets packets and fragments of a few clients, ICMP errors about them, time and changes
// of weight come in any order, and compares the engine with the model after each.
func TestModel(t *testing.T) {
	kinds := []struct {
		service forwarder.Service
		talk    func(cport, vport uint16) talk
	}{
		{service("TCP "+vip4+":80", "rr"), talk4}, {service("UDP "+vip4+":80", "rr"), talk4},
		{service("TCP ["+vip6+"]:80", "rr"), talk6}, {service("UDP ["+vip6+"]:80", "rr"), talk6},
	}
	rapid.Check(t, func(t *rapid.T) {
		exact := rapid.Bool().Draw(t, "exact") // whether ended flows go at once or when somebody comes by
		r := newRig(t, func(c *forwarder.Config) { c.Exact = exact })
		defer r.Close()
		m := &model{services: map[string]*modelService{}, flows: map[modelKey]*modelFlow{}, datagrams: map[modelDatagram]*modelPieces{}}
		for _, k := range kinds {
			key := r.serve(k.service, 1, 2, 3)
			m.services[key.String()] = &modelService{servers: []int{1, 2, 3}, weights: map[int]int32{1: 1, 2: 1, 3: 1}, flows: map[int]uint64{}}
		}
		t.Repeat(map[string]func(*rapid.T){
			"batch": func(t *rapid.T) {
				var batch []frame.Frame
				var want []int
				var what []string
				for range rapid.IntRange(1, 4).Draw(t, "frames") {
					k := rapid.SampledFrom(kinds).Draw(t, "service")
					talk := k.talk(rapid.Uint16Range(1024, 1027).Draw(t, "client's port"), 80)
					segment := rapid.SampledFrom([]string{"SYN", "SYN", "ACK", "ACK", "FIN", "RST", ""}).Draw(t, "segment")
					key := k.service.Key()
					f := talk.udp()
					if key.Proto == frame.TCP {
						f = talk.tcp(modelFlags[segment])
					}
					batch = append(batch, f)
					what = append(what, fmt.Sprint(segment, " from ", talk.client))
					if n := m.packet(m.services[key.String()], modelKey{talk, key.Proto}, segment); n != 0 {
						want = append(want, n)
					}
				}
				var got []int
				for _, o := range r.give(batch...) {
					if n := serverOf(o); n != 0 { // an answer goes to none
						got = append(got, n)
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%q go to realservers %v, want %v", what, got, want)
				}
			},
			"fragments": func(t *rapid.T) {
				k := rapid.SampledFrom([]int{1, 3}).Draw(t, "family")
				talk := kinds[k].talk(rapid.Uint16Range(1024, 1027).Draw(t, "client's port"), 80)
				id := rapid.Uint16Range(0, 1).Draw(t, "id")
				pieces := talk.pieces(talk.udp(data(200)...), id, 64, 128)
				key := kinds[k].service.Key()
				for range rapid.IntRange(1, 4).Draw(t, "fragments") {
					n := rapid.IntRange(0, 2).Draw(t, "which")
					want := m.fragment(m.services[key.String()], talk, id, n)
					var got []int
					for _, o := range r.give(pieces[n]) {
						if n := serverOf(o); n != 0 {
							got = append(got, n)
						}
					}
					if !slices.Equal(got, want) {
						t.Fatalf("fragment %d of datagram %d from %v goes to realservers %v, want %v", n, id, talk.client, got, want)
					}
				}
			},
			"ICMP": func(t *rapid.T) {
				k := rapid.SampledFrom(kinds).Draw(t, "service")
				talk := k.talk(rapid.Uint16Range(1024, 1027).Draw(t, "client's port"), 80)
				key := k.service.Key()
				problem := talk.icmpError(key.Proto)
				if rapid.Bool().Draw(t, "short") { // eight bytes of the transport header are quoted
					problem = talk.icmpErrorQuoting(key.Proto, 8)
				}
				var got int
				for _, o := range r.give(problem) {
					got = serverOf(o)
				}
				if want := m.problem(modelKey{talk, key.Proto}); got != want {
					t.Fatalf("an error about the flow of %v goes to realserver %d, want %d", talk.client, got, want)
				}
			},
			"time": func(t *rapid.T) {
				d := time.Duration(rapid.SampledFrom([]int{1, 9, 10, 11, 59, 60, 61, 119, 120, 121, 300, 301, 900, 901, 5000}).Draw(t, "seconds")) * time.Second
				d = wholeSteps(d) + time.Duration(rapid.IntRange(-2, 2).Draw(t, "steps"))*4*flow.Tick
				m.now += int64(d)
				for ; d > 15*time.Minute; d -= wholeSteps(15 * time.Minute) {
					r.after(wholeSteps(15 * time.Minute)) // a lazy engine has to be asked now and then
				}
				r.after(d)
				m.expire()
			},
			"weight": func(t *rapid.T) {
				s := rapid.SampledFrom(kinds).Draw(t, "service").service
				n, w := rapid.IntRange(1, 3).Draw(t, "realserver"), rapid.Int32Range(0, 1).Draw(t, "weight")
				r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), dest(s, n, weight(w))) })
				key := s.Key()
				m.services[key.String()].weights[n] = w
			},
			"": func(t *rapid.T) { compareModel(t, r, m, exact) },
		})
	})
}

func compareModel(t *rapid.T, r *rig, m *model, exact bool) {
	if got, want := engineList(r), m.list(); !slices.Equal(got, want) {
		t.Fatalf("the engine has\n%q, want\n%q", got, want)
	}
	if !exact { // a flow is counted until somebody notices that it has ended
		for range 8 {
			r.give()
		}
	}
	if got := r.Stats().Flows; got != len(m.flows) {
		t.Fatalf("%d flows are counted, want %d", got, len(m.flows))
	}
	for _, s := range r.Services() {
		key := s.Key()
		of := m.services[key.String()]
		for i, d := range s.Destinations {
			n := numbers(s)[i]
			var active, inactive int32
			for k, f := range m.flows {
				if f.server != n || k.proto != key.Proto || k.virtual.Addr() != key.Addr {
					continue
				}
				if f.active() {
					active++
				} else {
					inactive++
				}
			}
			if d.Active != active || d.Inactive != inactive || d.Counts.Flows != of.flows[n] {
				t.Fatalf("%v realserver %d has %d active, %d inactive, %d in all; want %d, %d, %d", key, n, d.Active, d.Inactive, d.Counts.Flows,
					active, inactive, of.flows[n])
			}
		}
	}
}
