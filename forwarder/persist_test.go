package forwarder_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// modelTemplates is persistence as one would write it in an afternoon: for each service and client,
// where it went and until when it stays there.
type modelTemplates struct {
	now       int64
	templates map[string]*modelTemplate
}

type modelTemplate struct {
	server   int
	deadline int64 // in ticks
}

func (m *modelTemplates) expire() {
	for k, x := range m.templates {
		if x.deadline <= ticks(m.now) {
			delete(m.templates, k)
		}
	}
}

// TestPersistenceModel lets datagrams of many clients come, each from a port of its own, so that
// each asks anew where its client belongs. A flow is shorter than a template here;
// TestTemplateOutlived has the others.
func TestPersistenceModel(t *testing.T) {
	const stay = 100 * time.Second
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SampledFrom([]int{0, 32, 28, 24}).Draw(t, "mask")
		persistent := func(s *forwarder.Service) { s.Persistence, s.MaskBits = stay, bits }
		group := forwarder.Service{Name: "group", Scheduler: "rr", Matches: []forwarder.Match{
			{Addr: addr(vip4), Proto: frame.UDP, First: 1000, Last: 1999}, {Addr: addr(vip4), Proto: frame.UDP, First: 443, Last: 443}}}
		persistent(&group)
		services := map[uint16]forwarder.Service{ // by port: each of these is a kind of template
			80: service("UDP "+vip4+":80", "rr", persistent), 53: service("UDP "+vip4+":0", "rr", persistent), 443: group,
		}
		services[54], services[1234] = services[53], group

		r := newRig(t)
		defer r.Close()
		quiescent := rapid.Bool().Draw(t, "expire_quiescent_template")
		r.set(func(s *forwarder.Settings) { s.UDPTimeout, s.ExpireQuiescentTemplate = 10*time.Second, quiescent })
		m := &modelTemplates{templates: map[string]*modelTemplate{}}
		rrs := map[string]*modelService{}
		for _, port := range []uint16{80, 53, 443} {
			s := services[port]
			rrs[s.Key().String()] = &modelService{servers: []int{1, 2, 3}, weights: map[int]int32{1: 1, 2: 1, 3: 1}, flows: map[int]uint64{}}
			r.serve(s, 1, 2, 3)
		}
		cport := uint16(1024)
		ports := rapid.SampledFrom([]uint16{80, 53, 54, 443, 1234})
		t.Repeat(map[string]func(*rapid.T){
			"datagram": func(t *rapid.T) {
				client := netip.AddrFrom4([4]byte{192, 0, byte(rapid.IntRange(1, 2).Draw(t, "network")), byte(rapid.SampledFrom([]int{1, 2, 17}).Draw(t, "host"))})
				vport := ports.Draw(t, "port")
				s := services[vport]
				prefix, err := client.Prefix(map[bool]int{true: 32, false: bits}[bits == 0])
				if err != nil {
					t.Fatal(err)
				}
				key := fmt.Sprint(s.Key(), prefix)
				rr, x, want := rrs[s.Key().String()], m.templates[key], 0
				if x == nil || quiescent && rr.weights[x.server] == 0 {
					if want = rr.choose(); want != 0 {
						m.templates[key] = &modelTemplate{server: want}
					} else {
						delete(m.templates, key)
					}
				} else {
					want = x.server
				}
				if x := m.templates[key]; x != nil {
					x.deadline = ticks(m.now) + ticks(int64(stay)) + 1
				}
				cport++
				got := 0
				for _, o := range r.give(talk{netip.AddrPortFrom(client, cport), netip.AddrPortFrom(addr(vip4), vport)}.udp()) {
					got += serverOf(o)
				}
				if got != want {
					t.Fatalf("%v to port %d goes to realserver %d, want %d", client, vport, got, want)
				}
			},
			"time": func(t *rapid.T) {
				d := wholeSteps(time.Duration(rapid.SampledFrom([]int{1, 9, 11, 50, 99, 100, 101}).Draw(t, "seconds")) * time.Second)
				r.after(d)
				m.now += int64(d)
				m.expire()
			},
			"weight": func(t *rapid.T) {
				s := services[ports.Draw(t, "port")]
				n, w := rapid.IntRange(1, 3).Draw(t, "realserver"), rapid.Int32Range(0, 1).Draw(t, "weight")
				d := dest(s, n, weight(w))
				r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), d) })
				rrs[s.Key().String()].weights[n] = w
			},
		})
	})
}

// TestPersistentFamilies: an IPv6 client stays too, and so does the prefix that it is of.
func TestPersistentFamilies(t *testing.T) {
	r := start(t)
	s := service("TCP ["+vip6+"]:80", "rr", func(s *forwarder.Service) { s.Persistence, s.MaskBits = time.Minute, 64 })
	r.serve(s, 1, 2, 3)
	for n, c := range []struct {
		client string
		want   int
	}{{"2001:db8:1:1::1", 1}, {"2001:db8:1:2::1", 2}, {"2001:db8:1:1::2", 1}, {"2001:db8:1:1::1", 1}, {"2001:db8:1:3::1", 3}} {
		r.goesTo(from(fmt.Sprintf("[%s]:%d", c.client, 2000+n), "["+vip6+"]:80").tcp(frame.SYN), c.want)
	}
}

// TestPersistentState: a template is listed as such, is counted at its realserver, and is "assured"
// once a connection of it was established. Its flows begin again at the same realserver, though
// conn_reuse_mode would move others.
func TestPersistentState(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr", func(s *forwarder.Service) { s.Persistence = time.Minute })
	r.serve(s, 1, 2)
	template := func(state string) {
		t.Helper()
		for _, c := range r.conns() {
			if c.Template {
				if c.State != state || c.Client != netip.MustParseAddrPort(client4+":0") || c.Virtual != netip.MustParseAddrPort(vip4+":80") ||
					c.Destination != netip.MustParseAddrPort("10.0.0.1:80") || c.Packets != 0 {
					t.Fatalf("the template is %+v, want %s", c, state)
				}
				return
			}
		}
		t.Fatal("no template")
	}
	k := talk4(40000, 80)
	r.goesTo(k.tcp(frame.SYN), 1)
	template("NONE")
	r.goesTo(k.tcp(frame.ACK), 1)
	template("ASSURED")
	if d := r.one().Destinations[0]; d.Persistent != 1 || d.Active != 1 {
		t.Fatalf("its realserver is %+v", d)
	}
	r.goesTo(k.tcp(frame.RST), 1)
	r.goesTo(k.tcp(frame.SYN), 1)
	if n := len(r.conns()); n != 2 {
		t.Fatalf("%d entries, want a template and a flow", n)
	}
}

// TestMarksApart: a client stays at one realserver in each group, not in all groups together.
func TestMarksApart(t *testing.T) {
	r := start(t)
	for mark, n := range []int{1, 2, 3} {
		r.serve(forwarder.Service{Mark: uint32(mark) + 1, Scheduler: "rr", Persistence: time.Minute,
			Matches: []forwarder.Match{{Addr: addr(vip4), Proto: frame.TCP, First: uint16(80 + n), Last: uint16(80 + n)}}}, n)
	}
	for range 2 {
		for n := range uint16(3) {
			r.goesTo(talk4(uint16(40000+r.Stats().Flows), 81+n).tcp(frame.SYN), int(n)+1)
		}
	}
	for _, c := range r.conns() {
		if c.Template && (c.Proto != "IP" || c.Virtual != netip.MustParseAddrPort(fmt.Sprintf("0.0.0.%d:0", c.Service.Mark))) {
			t.Fatalf("a template of group %d is %+v", c.Service.Mark, c)
		}
	}
}

// TestSCTPState: an association is established, and its template with it, by the client's cookie;
// an ABORT that comes in the same packet ends it.
func TestSCTPState(t *testing.T) {
	r := start(t)
	r.serve(service("SCTP "+vip4+":9", "rr", func(s *forwarder.Service) { s.Persistence = time.Minute }), 1)
	states := func(want ...string) {
		t.Helper()
		var got []string
		for _, c := range r.conns() {
			got = append(got, c.State)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("the states are %v, want %v", got, want)
		}
	}
	k := talk4(40000, 9)
	r.goesTo(k.sctp(1), 1)
	states("INIT1", "NONE")
	both := append([]byte{9: 0, 10: 0, 11: 0}, 10, 0, 0, 6, 7, 7, 0, 0 /* padding */, 6, 0, 0, 4)
	k.ports(both)
	r.goesTo(k.whole(frame.SCTP, both), 1)
	states("CLOSED", "NONE")
	r.goesTo(k.sctp(1), 1)
	states("INIT", "NONE")
	r.goesTo(k.sctp(10), 1)
	states("ASSURED", "ESTABLISHED")
	if d := r.one().Destinations[0]; d.Active != 1 || d.Inactive != 0 {
		t.Fatalf("its realserver is %+v", d)
	}
	r.goesTo(k.sctp(7), 1)
	states("ASSURED", "S-RECEIVED")
}

// TestTemplateOutlived: a template stays while a flow of it lives, and a minute at a time.
func TestTemplateOutlived(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr", func(s *forwarder.Service) { s.Persistence = 30 * time.Second })
	r.serve(s, 1, 2)
	r.goesTo(talk4(40000, 80).tcp(frame.SYN), 1)
	r.goesTo(talk4(40000, 80).tcp(frame.ACK), 1) // for 900 s
	for n := range uint16(5) {
		r.after(wholeSteps(100 * time.Second))
		r.goesTo(talk4(41000+n, 80).tcp(frame.SYN), 1)
	}
	r.after(wholeSteps(20 * time.Minute))
	r.after(wholeSteps(time.Minute))
	if c := r.conns(); len(c) != 0 {
		t.Fatalf("left over: %+v", c)
	}
	r.goesTo(talk4(42000, 80).tcp(frame.SYN), 2)
}

// TestTemplateOfGone: a client whose realserver was removed gets another, and its new flows stay
// there when the old one comes back. The flow that it had still finds the old one.
func TestTemplateOfGone(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr", func(s *forwarder.Service) { s.Persistence = time.Minute })
	key := r.serve(s, 1, 2)
	r.goesTo(talk4(40000, 80).tcp(frame.SYN), 1)
	r.update(func(tx *forwarder.Tx) error { return tx.DeleteDestination(key, dest(s, 1)) })
	r.goesTo(talk4(40001, 80).tcp(frame.SYN), 2)
	r.expect(talk4(40000, 80).tcp(frame.ACK), forwarder.DestGone)
	r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(key, dest(s, 1)) })
	r.goesTo(talk4(40002, 80).tcp(frame.SYN), 2)
	r.goesTo(talk4(40000, 80).tcp(frame.ACK), 1)
}
