package forwarder_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// traffic is a frame of every kind that is forwarded, in an order in which the later ones find
// their flows.
func traffic() map[string][]frame.Frame {
	options := talk6(40001, 80).tcp(frame.ACK, 1, 2, 3)
	padded := talk4(40000, 53).udp()
	padded.Buf = append(padded.Buf, make([]byte, 18)...) // an Ethernet frame has 60 bytes at least
	padded.Wire = int32(len(padded.Buf))
	super := talk4(40000, 80).tcp(frame.ACK|frame.PSH, make([]byte, 60000)...) // what a ring with GRO lends
	super.Buf = append([]byte{1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0}, super.Buf...)
	super.Head = 10
	return map[string][]frame.Frame{
		"TCP": {talk4(40000, 80).tcp(frame.SYN), talk4(40000, 80).tcp(frame.ACK, 1, 2, 3), super,
			talk4(40000, 80).icmpError(frame.TCP), talk4(40000, 80).tcp(frame.FIN | frame.ACK), talk4(40000, 80).tcp(frame.RST)},
		"TCP, IPv6":  {talk6(40001, 80).tcp(frame.SYN), options, talk6(40001, 80).icmpError(frame.TCP)},
		"UDP":        {talk4(40000, 53).udp(1, 2, 3), padded, talk4(40000, 53).icmpError(frame.UDP)},
		"UDP, IPv6":  {talk6(40000, 53).udp(1), talk6(40000, 53).icmpError(frame.UDP)},
		"SCTP":       {talk4(40000, 9).sctp(1), talk4(40000, 9).sctp(10), talk4(40000, 9).icmpError(frame.SCTP)},
		"SCTP, IPv6": {talk6(40000, 9).sctp(1), talk6(40000, 9).sctp(0)},
	}
}

// TestOnlyMACsChange: whatever is forwarded goes out as it came in but for its MACs, by whichever
// leg, and its source MAC is the one that the policy says.
func TestOnlyMACsChange(t *testing.T) {
	own := map[forwarder.SourcePolicy][2]bool{ // for each policy: is the source the leg's with one leg, with two?
		forwarder.SourceAuto: {true, false}, forwarder.SourcePreserve: {false, false}, forwarder.SourceOwn: {true, true},
	}
	for policy, owns := range own {
		for leg := range frame.Leg(2) {
			for name, frames := range traffic() {
				t.Run(fmt.Sprintf("policy %d/out by leg %d/%s", policy, leg, name), func(t *testing.T) {
					r := start(t)
					someServices(r)
					r.set(func(s *forwarder.Settings) { s.Source = policy })
					moveServers(r, leg)
					source := routerMAC
					if owns[leg] {
						source = legMAC[leg]
					}
					for i, in := range frames {
						checkForwarded(t, r, i, in, leg, source)
					}
				})
			}
		}
	}
}

// moveServers puts all realservers behind a leg.
func moveServers(r *rig, leg frame.Leg) {
	for _, s := range r.Services() {
		for _, d := range s.Destinations {
			d.Leg = leg
			r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), d.Destination) })
			r.must(r.SetNeighbour(leg, d.Addr, serverMAC(int(d.Addr.AsSlice()[len(d.Addr.AsSlice())-1]))))
		}
	}
}

func checkForwarded(t *testing.T, r *rig, i int, in frame.Frame, leg frame.Leg, source frame.MAC) {
	t.Helper()
	in.Time = r.now
	out := r.give(in)
	if len(out) != 1 {
		t.Fatalf("frame %d: %d frames come out", i, len(out))
	}
	o, want := out[0], clone(in)
	if n := serverOf(o); n != 1 && n != 2 {
		t.Fatalf("frame %d goes to %v", i, o.Dst())
	}
	want.SetDst(o.Dst())
	want.SetSrc(source)
	if !bytes.Equal(o.Buf, want.Buf) {
		t.Fatalf("frame %d became\n%x, want\n%x", i, o.Buf, want.Buf)
	}
	if o.Out != leg || o.In != 0 || o.Time != in.Time || o.Wire != in.Wire || o.Head != in.Head || o.TPID != 0 || o.TCI != 0 {
		t.Fatalf("frame %d has become %+v", i, o)
	}
}

// TestAnyFlowUnchanged says the same of any payload and any bytes in the headers that mean nothing
// to a director.
func TestAnyFlowUnchanged(t *testing.T) {
	r := start(t)
	someServices(r)
	rapid.Check(t, func(t *rapid.T) {
		k := talk4(rapid.Uint16Range(1024, 65535).Draw(t, "port"), 53)
		f := k.udp(rapid.SliceOfN(rapid.Byte(), 0, 1400).Draw(t, "data")...)
		f = changed(f, 15, rapid.Byte().Draw(t, "type of service"))
		f = changed(f, 18, rapid.Byte().Draw(t, "id"), rapid.Byte().Draw(t, "id"))
		f = changed(f, 22, rapid.Byte().Draw(t, "TTL"))
		f.Buf[40], f.Buf[41] = rapid.Byte().Draw(t, "checksum"), rapid.Byte().Draw(t, "checksum") // may be partial
		out := r.give(f)
		if len(out) != 1 || !bytes.Equal(out[0].Buf[12:], f.Buf[12:]) {
			t.Fatalf("%x became %v", f.Buf, out)
		}
	})
}

// TestRetag: a forwarded frame has the VLAN of the leg by which it goes, and the priority with
// which it came.
func TestRetag(t *testing.T) {
	for _, c := range []struct {
		name              string
		in, out           uint16 // VLANs of the legs
		inTPID, outTPID   uint16
		leg               frame.Leg
		tpid, tci         uint16
		wantTPID, wantTCI uint16
	}{
		{name: "tagged to untagged", in: 7, out: 0, leg: 1, tpid: 0x8100, tci: 0xa007},
		{name: "untagged to tagged", in: 0, out: 9, leg: 1, wantTPID: 0x8100, wantTCI: 9},
		{name: "tagged to tagged", in: 7, out: 9, leg: 1, tpid: 0x8100, tci: 0xb007, wantTPID: 0x8100, wantTCI: 0xb009},
		{name: "priority only to tagged", in: 0, out: 9, leg: 1, tpid: 0x8100, tci: 0x6000, wantTPID: 0x8100, wantTCI: 0x6009},
		{name: "priority only to untagged", in: 0, out: 0, leg: 1, tpid: 0x8100, tci: 0x6000},
		{name: "priority only, back by the leg it came by", in: 0, out: 9, leg: 0, tpid: 0x8100, tci: 0x6000},
		{name: "the tag of a provider bridge", in: 7, inTPID: 0x88a8, out: 9, outTPID: 0x88a8, leg: 1, tpid: 0x88a8, tci: 7, wantTPID: 0x88a8, wantTCI: 9},
		{name: "from a provider bridge", in: 7, inTPID: 0x88a8, out: 9, leg: 1, tpid: 0x88a8, tci: 0x6007, wantTPID: 0x8100, wantTCI: 0x6009},
		{name: "to a provider bridge", in: 7, out: 9, outTPID: 0x88a8, leg: 1, tpid: 0x8100, tci: 0x6007, wantTPID: 0x88a8, wantTCI: 0x6009},
		{name: "back by the leg it came by", in: 7, out: 9, leg: 0, tpid: 0x8100, tci: 0xa007, wantTPID: 0x8100, wantTCI: 0xa007},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, func(cfg *forwarder.Config) {
				cfg.Legs[0].VLAN, cfg.Legs[1].VLAN = c.in, c.out
				cfg.Legs[0].TPID, cfg.Legs[1].TPID = c.inTPID, c.outTPID
			})
			someServices(r)
			moveServers(r, c.leg)
			f := talk4(40000, 80).tcp(frame.SYN)
			f.TPID, f.TCI = c.tpid, c.tci
			out := r.give(f)
			if len(out) != 1 || out[0].TPID != c.wantTPID || out[0].TCI != c.wantTCI {
				t.Fatalf("%#x %#x became %+v, want %#x %#x", c.tpid, c.tci, out, c.wantTPID, c.wantTCI)
			}
		})
	}
}

// TestSetLeg: when an interface gets another MAC, frames go out with it, and only those that are
// sent to it come in.
func TestSetLeg(t *testing.T) {
	r := start(t)
	someServices(r)
	syn := talk4(40000, 80).tcp(frame.SYN)
	r.expect(syn, forwarder.Forwarded)
	other := mac("02:00:00:00:00:77")
	r.must(r.SetLeg(0, forwarder.Leg{Name: "public", MAC: other}))
	r.expect(syn, forwarder.NotForUs)
	if out := r.give(changed(syn, 0, other[:]...)); len(out) != 1 || out[0].Src() != other {
		t.Fatalf("a frame to the new MAC became %v", out)
	}
	if err := r.SetLeg(2, forwarder.Leg{}); err == nil {
		t.Fatal("a leg that the director does not have was changed")
	}
}

// TestBatchIsInOrder: the frames of a batch are decided in order, so that a SYN opens the flow for
// the ACK behind it; a frame of each of several flows goes where that flow's first went.
func TestBatchIsInOrder(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2, 3)
	var batch []frame.Frame
	for n := range uint16(21) {
		k := talk4(1024+n, 80)
		batch = append(batch, k.tcp(frame.SYN), k.tcp(frame.ACK), k.tcp(frame.FIN|frame.ACK))
	}
	out := r.give(batch...)
	if len(out) != len(batch) {
		t.Fatalf("%d frames of %d go on", len(out), len(batch))
	}
	for i, f := range out {
		if want := i/3%3 + 1; serverOf(f) != want {
			t.Fatalf("frame %d goes to realserver %d, want %d", i, serverOf(f), want)
		}
		if !bytes.Equal(f.Buf[12:], batch[i].Buf[12:]) {
			t.Fatalf("frame %d is not in its place", i)
		}
	}
	for _, c := range r.conns() {
		if c.State != "FIN_WAIT" || c.Packets != 3 {
			t.Fatalf("a flow is %+v", c)
		}
	}
}

// TestPortMatches: of the services that claim a port the most particular has it; a range and
// several matches work, and so do the data ports of an FTP service.
func TestPortMatches(t *testing.T) {
	r := start(t)
	long := func(s *forwarder.Service) { s.Persistence = 100 * 1e9 }
	group := forwarder.Service{Name: "web", Scheduler: "rr", Matches: []forwarder.Match{
		{Addr: addr(vip4), Proto: frame.TCP, First: 8000, Last: 8999}, {Addr: addr(vip4), Proto: frame.UDP, First: 443, Last: 443}}}
	marked := forwarder.Service{Mark: 7, Scheduler: "rr", Matches: []forwarder.Match{{Addr: addr(vip4), Proto: frame.TCP, First: 8500, Last: 8500}}}
	r.serve(service("TCP "+vip4+":0", "rr", long), 1)
	r.serve(service("TCP "+vip4+":80", "rr"), 2)
	r.serve(group, 3)
	r.serve(service("TCP "+vip4+":8200", "rr"), 4)
	r.serve(service("TCP "+vip4+":21", "rr", long), 5)
	r.serve(marked, 6)
	for port, want := range map[uint16]int{80: 2, 22: 1, 8000: 3, 8999: 3, 8100: 3, 9000: 5, 8200: 4, 8500: 6, 21: 5, 20: 5, 1024: 5, 1023: 1} {
		// Each by another client: FTP and "all ports" share their templates, as in the kernel.
		client := fmt.Sprintf("192.0.2.%d:40000", port%200)
		out := r.give(from(client, fmt.Sprintf("%s:%d", vip4, port)).tcp(frame.SYN))
		if len(out) != 1 || serverOf(out[0]) != want {
			t.Errorf("port %d: %v, want realserver %d", port, out, want)
		}
	}
	if out := r.give(talk4(40000, 443).udp()); len(out) != 1 || serverOf(out[0]) != 3 {
		t.Errorf("the group's UDP port: %v", out)
	}
}
