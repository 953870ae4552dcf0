package forwarder_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// A verdictCase is a frame and what has to become of it, at a director of one service of each kind.
type verdictCase struct {
	want   forwarder.Verdict
	what   string
	before func(r *rig) // what happened before
	frame  frame.Frame
}

// someServices is the director of the verdict table: TCP, UDP and SCTP of both families, and one
// service without realservers.
func someServices(r *rig) {
	for _, vip := range []string{vip4, "[" + vip6 + "]"} {
		r.serve(service("TCP "+vip+":80", "rr"), 1, 2)
		r.serve(service("UDP "+vip+":53", "rr"), 1, 2)
		r.serve(service("SCTP "+vip+":9", "rr"), 1, 2)
	}
	r.serve(service("TCP "+vip4+":81", "rr"))
}

// with makes a case's "before" of frames that go ahead.
func with(frames ...frame.Frame) func(*rig) {
	return func(r *rig) { r.give(frames...) }
}

// tagged is a frame whose VLAN tag the kernel took out.
func tagged(f frame.Frame, tci uint16) frame.Frame {
	f.TPID, f.TCI = frame.EtherTypeVLAN, tci
	return f
}

// cutTo is what a capture that ended after n bytes holds of a frame.
func cutTo(f frame.Frame, n int) frame.Frame {
	f.Buf = f.Buf[:n]
	return f
}

// shortTo is a frame that was not longer than n bytes on the wire either.
func shortTo(f frame.Frame, n int) frame.Frame {
	f = cutTo(f, n)
	f.Wire = int32(n)
	return f
}

// sourced is the SYN of a client with another address.
func sourced(client string) frame.Frame {
	if addr(client).Is6() {
		return from("["+client+"]:40000", "["+vip6+"]:80").tcp(frame.SYN)
	}
	return from(client+":40000", vip4+":80").tcp(frame.SYN)
}

// innerTag is a frame with a VLAN tag in its bytes.
func innerTag(f frame.Frame) frame.Frame {
	b := append([]byte{}, f.Buf[:12]...)
	b = append(b, 0x81, 0x00, 0x00, 0x07)
	b = append(b, f.Buf[12:]...)
	return frame.Frame{Buf: b, Wire: int32(len(b))}
}

// inVLAN gives the leg that frames come in and leave by a VLAN.
func inVLAN(vlan, tpid uint16) func(*rig) {
	return func(r *rig) {
		r.must(r.SetLeg(0, forwarder.Leg{Name: "public", MAC: legMAC[0], VLAN: vlan, TPID: tpid}))
	}
}

// limited gives the leg that frames come in and leave by an MTU.
func limited(mtu uint32) func(*rig) {
	return func(r *rig) { r.must(r.SetLeg(0, forwarder.Leg{Name: "public", MAC: legMAC[0], MTU: mtu})) }
}

func removeServer1(r *rig) {
	s := service("TCP "+vip4+":80", "rr")
	r.update(func(tx *forwarder.Tx) error { return tx.DeleteDestination(s.Key(), dest(s, 1)) })
}

// fillTable makes as many flows as the table holds.
func fillTable(r *rig) {
	for n := 0; r.Stats().Flows < 1024; n++ {
		if n == 3000 {
			r.Fatal("the table does not fill")
		}
		r.give(talk4(uint16(1024+n), 80).tcp(frame.SYN))
	}
}

func verdictTable() []verdictCase {
	syn, ack, syn6 := talk4(40000, 80).tcp(frame.SYN), talk4(40000, 80).tcp(frame.ACK), talk6(40000, 80).tcp(frame.SYN)
	ping := talk4(0, 0).icmp(8, 0, 0, 1, 0, 1)
	return []verdictCase{
		{forwarder.Forwarded, "a SYN", nil, syn},
		{forwarder.Forwarded, "a SYN, IPv6", nil, syn6},
		{forwarder.Forwarded, "a segment of a flow", with(syn), ack},
		{forwarder.Forwarded, "a datagram", nil, talk4(40000, 53).udp(1, 2, 3)},
		{forwarder.Forwarded, "an INIT", nil, talk4(40000, 9).sctp(1)},
		{forwarder.Forwarded, "an ICMP error about a flow", with(syn), talk4(40000, 80).icmpError(frame.TCP)},
		{forwarder.Forwarded, "an ICMPv6 error about a flow", with(syn6), talk6(40000, 80).icmpError(frame.TCP)},
		{forwarder.Echoed, "a ping", nil, ping},
		{forwarder.Echoed, "a ping, IPv6", nil, talk6(0, 0).icmp(128, 0, 0, 1, 0, 1)},

		{forwarder.NotForUs, "another MAC", nil, changed(syn, 0, 2, 0, 0, 0, 0, 9)},
		{forwarder.NotForUs, "the broadcast", nil, changed(syn, 0, 255, 255, 255, 255, 255, 255)},
		{forwarder.NotIP, "ARP", nil, changed(syn, 12, 0x08, 0x06)},
		{forwarder.NotOurs, "another address", nil, from(client4+":40000", "203.0.113.11:80").tcp(frame.SYN)},
		{forwarder.NotOurs, "another address, GRE", nil, changed(from(client4+":1", "203.0.113.11:80").tcp(frame.SYN), 23, 47)},
		{forwarder.NotOurs, "another address, half a header", nil, from(client4+":1", "203.0.113.11:80").whole(frame.TCP, make([]byte, 10))},
		{forwarder.WrongVLAN, "a tag on a leg that has none", nil, tagged(syn, 7)},
		{forwarder.WrongVLAN, "a tag in the frame", nil, innerTag(syn)},
		{forwarder.Forwarded, "a priority, and no VLAN", nil, tagged(syn, 0xe000)},
		{forwarder.WrongVLAN, "a priority, and a tag in the frame", nil, tagged(innerTag(syn), 0xe000)},
		{forwarder.Forwarded, "the leg's VLAN, with a priority", inVLAN(7, 0), tagged(syn, 0xe007)},
		{forwarder.WrongVLAN, "the leg's VLAN, with another within", inVLAN(7, 0), tagged(innerTag(syn), 7)},
		{forwarder.WrongVLAN, "a priority only, on a leg that has a VLAN", inVLAN(7, 0), tagged(syn, 0xe000)},
		{forwarder.WrongVLAN, "the leg's VLAN, but of the other kind", inVLAN(7, frame.EtherTypeQinQ), tagged(syn, 7)},
		{forwarder.Forwarded, "802.1ad", inVLAN(7, frame.EtherTypeQinQ), func() frame.Frame {
			f := tagged(syn, 7)
			f.TPID = frame.EtherTypeQinQ
			return f
		}()},
		{forwarder.WrongVLAN, "no tag on a leg that has one", func(r *rig) {
			r.must(r.SetLeg(0, forwarder.Leg{MAC: legMAC[0], VLAN: 7}))
		}, syn},
		{forwarder.OtherProto, "GRE", nil, changed(syn, 23, 47)},
		{forwarder.OtherProto, "ICMPv6 in IPv4", nil, changed(ping, 23, 58)},
		{forwarder.NoService, "another port", nil, talk4(40000, 8080).tcp(frame.SYN)},
		{forwarder.NoService, "the port, but UDP", nil, talk4(40000, 80).udp()},

		{forwarder.Runt, "10 bytes", nil, shortTo(syn, 10)},
		{forwarder.BadHeader, "a length beyond the frame", nil, shortTo(syn, 50)},
		{forwarder.BadHeader, "version 5", nil, changed(syn, 14, 0x55)},
		{forwarder.BadHeader, "an IPv6 length beyond the frame", nil, shortTo(syn6, 70)},
		{forwarder.BadChecksum, "a hop that forgot the checksum", nil, func() frame.Frame {
			f := clone(syn)
			f.Buf[22]-- // the TTL
			return f
		}()},
		{forwarder.BadTransport, "half a TCP header", nil, talk4(40000, 80).whole(frame.TCP, make([]byte, 10))},
		{forwarder.BadTransport, "an ICMP error that quotes nothing", nil, talk4(0, 0).icmp(3, 3, 0, 0, 0, 0)},
		{forwarder.Truncated, "the headers are there, the data is not", nil, cutTo(talk4(40000, 53).udp(1, 2, 3), 43)},
		{forwarder.Truncated, "the headers are cut", nil, cutTo(syn, 40)},
		{forwarder.Truncated, "less than an Ethernet header", nil, cutTo(syn, 10)},
		{forwarder.Fragment, "the last part of an unknown datagram", nil, changed(talk4(40000, 53).udp(make([]byte, 64)...), 20, 0, 9)},

		{forwarder.LoopGuard, "from a realserver's MAC", nil, changed(syn, 6, 2, 0, 0, 0, 1, 1)},
		{forwarder.LoopGuard, "from the other leg's MAC", nil, changed(syn, 6, legMAC[1][:]...)},
		{forwarder.LoopGuard, "from the leg's own MAC", nil, changed(syn, 6, legMAC[0][:]...)},
		{forwarder.BadSource, "from the VIP", nil, sourced(vip4)},
		{forwarder.BadSource, "from a group", nil, sourced("224.0.0.1")},
		{forwarder.BadSource, "from the broadcast", nil, sourced("255.255.255.255")},
		{forwarder.BadSource, "from nobody", nil, sourced("0.0.0.0")},
		{forwarder.BadSource, "from the loopback", nil, sourced("127.0.0.1")},
		{forwarder.BadSource, "from the VIP, IPv6", nil, sourced(vip6)},
		{forwarder.BadSource, "from a group, IPv6", nil, sourced("ff02::1")},
		{forwarder.BadSource, "from nobody, IPv6", nil, sourced("::")},
		{forwarder.BadSource, "from the loopback, IPv6", nil, sourced("::1")},

		{forwarder.NoFlow, "an ACK out of the blue", nil, ack},
		{forwarder.NoFlow, "a RST with a SYN", nil, talk4(40000, 80).tcp(frame.SYN | frame.RST)},
		{forwarder.NoFlow, "SCTP data out of the blue", nil, talk4(40000, 9).sctp(0)},
		{forwarder.NoDestination, "no realservers", nil, talk4(40000, 81).tcp(frame.SYN)},
		{forwarder.NoDestination, "no realserver answers for its address", func(r *rig) {
			r.must(r.SetNeighbour(0, server(1, false), frame.MAC{}))
			r.must(r.SetNeighbour(0, server(2, false), frame.MAC{}))
		}, syn},
		{forwarder.DestGone, "its realserver was removed", func(r *rig) {
			r.give(syn)
			removeServer1(r)
		}, ack},
		{forwarder.Unresolved, "its realserver does not answer any more", func(r *rig) {
			r.give(syn)
			r.must(r.SetNeighbour(0, server(1, false), frame.MAC{}))
		}, ack},
		{forwarder.Unresolved, "its realservers are being asked for", func(r *rig) {
			r.must(r.SetNeighbours([]forwarder.Neighbour{{Hop: forwarder.Hop{Addr: server(1, false)}, Asked: true}, {Hop: forwarder.Hop{Addr: server(2, false)}}}))
		}, syn},
		{forwarder.TableFull, "nothing may end for it", func(r *rig) {
			r.set(func(s *forwarder.Settings) { s.RefuseWhenFull = true })
			fillTable(r)
		}, from("192.0.2.8:1", vip4+":80").tcp(frame.SYN)},
		{forwarder.DropPacket, "one new flow of each one is dropped", func(r *rig) {
			r.set(func(s *forwarder.Settings) { s.DropPacket, s.AmDroprate = 3, 1 })
			r.after(time.Second)
		}, syn},
		{forwarder.NoICMPFlow, "an error about a ping of a VIP", nil, talk4(0, 0).icmpError(frame.ICMP)},
		{forwarder.NoICMPFlow, "an ICMPv6 error about a ping of a VIP", nil, talk6(0, 0).icmpError(frame.ICMPv6)},
		{forwarder.NoICMPFlow, "an error about no flow", nil, talk4(40000, 80).icmpError(frame.TCP)},
		{forwarder.NoICMPFlow, "an error about another host's flow, of the same ports", with(syn), talk4(0, 0).icmp(3, 3,
			append([]byte{0, 0, 0, 0}, from("203.0.113.99:80", client4+":40000").packet(frame.TCP, ack.Buf[34:38])...)...)},
		{forwarder.FragNeeded, "longer than the MTU", limited(1400), df(talk4(40000, 53).udp(make([]byte, 1373)...))},
		{forwarder.FragNeeded, "longer than the MTU, IPv6", limited(1400), talk6(40000, 53).udp(make([]byte, 1353)...)},
		{forwarder.AboveMTU, "longer than the MTU, may be fragmented", limited(1400), talk4(40000, 53).udp(make([]byte, 1373)...)},
		{forwarder.ICMPIgnored, "a timestamp request", nil, talk4(0, 0).icmp(13, 0, make([]byte, 16)...)},
		{forwarder.ICMPIgnored, "a neighbour solicitation", nil, talk6(0, 0).icmp(135, 0, make([]byte, 20)...)},
		{forwarder.ICMPIgnored, "a ping that nobody may answer", func(r *rig) {
			r.set(func(s *forwarder.Settings) { s.Silent = true })
		}, ping},
	}
}

// sendVerdicts are reached by a Sink that does not take a frame.
var sendVerdicts = map[forwarder.Verdict]forwarder.Lost{
	forwarder.SendFull:   {Full: 1},
	forwarder.SendTooBig: {TooBig: 1},
	forwarder.SendDown:   {Down: 1},
	forwarder.SendFailed: {Refused: 1},
}

// TestVerdicts checks that each verdict is given for what it says, and that none is forgotten here.
func TestVerdicts(t *testing.T) {
	reached := map[forwarder.Verdict]bool{}
	for _, c := range verdictTable() {
		reached[c.want] = true
		t.Run(fmt.Sprintf("%v/%s", c.want, c.what), func(t *testing.T) {
			r := start(t)
			someServices(r)
			if c.before != nil {
				c.before(r)
			}
			r.expect(c.frame, c.want)
		})
	}
	for want, lost := range sendVerdicts {
		reached[want] = true
		t.Run(want.String(), func(t *testing.T) {
			r := start(t)
			someServices(r)
			src := &sliceSource{frames: []frame.Frame{talk4(40000, 80).tcp(frame.SYN), talk4(40001, 80).tcp(frame.SYN)}}
			r.must(r.Worker(0).Run(context.Background(), src, &sliceSink{lose: lost}))
			got := r.Stats().Verdicts
			if got[want] != 1 || got[forwarder.Forwarded] != 1 {
				t.Fatalf("of two frames %d are forwarded and %d %q, want 1 and 1", got[forwarder.Forwarded], got[want], want)
			}
		})
	}
	reached[forwarder.TableLost] = true // by TestCutInBatch
	for v := range forwarder.NumVerdicts {
		if !reached[v] {
			t.Errorf("no frame here reaches the verdict %q", v)
		}
	}
}

// TestVerdictNames: names go to the operator, and into metrics, where two alike would be added up.
func TestVerdictNames(t *testing.T) {
	seen := map[string]forwarder.Verdict{}
	for v := range forwarder.NumVerdicts {
		if v.String() == "" || v.Meaning() == "" {
			t.Errorf("verdict %d has no name or no meaning", v)
		}
		if w, ok := seen[v.String()]; ok {
			t.Errorf("verdicts %d and %d are both called %q", v, w, v)
		}
		seen[v.String()] = v
	}
	if v := forwarder.NumVerdicts; v.String() != "unknown" || v.Meaning() != "unknown" {
		t.Errorf("a number that is no verdict is called %q, %q", v, v.Meaning())
	}
}

// TestLostAnswers: answers are among the frames that a Sink is given, but were never counted as
// forwarded. A lost one must not be taken from there.
func TestLostAnswers(t *testing.T) {
	r := start(t)
	someServices(r)
	src := &sliceSource{frames: []frame.Frame{talk4(40000, 8080).tcp(frame.SYN)}}
	sink := &sliceSink{lose: forwarder.Lost{Full: 1}}
	r.must(r.Worker(0).Run(context.Background(), src, sink))
	if len(sink.sent) != 1 {
		t.Fatalf("%d frames were sent, want the RST", len(sink.sent))
	}
	got := r.Stats().Verdicts
	if got[forwarder.Forwarded] != 0 || got[forwarder.NoService] != 1 || got[forwarder.SendFull] != 1 {
		t.Fatalf("%d forwarded, %d without service, %d lost; want 0, 1, 1", got[forwarder.Forwarded], got[forwarder.NoService], got[forwarder.SendFull])
	}
}

// TestEveryFrameIsCounted: whatever bytes come, each frame gets exactly one verdict. A frame that
// is none at all but for its addresses is spoilt at every byte in turn.
func TestEveryFrameIsCounted(t *testing.T) {
	r := start(t)
	someServices(r)
	frames := []frame.Frame{talk4(40000, 80).tcp(frame.SYN), talk6(40000, 53).udp(1, 2), talk4(40000, 80).icmpError(frame.TCP),
		talk6(40000, 80).icmpError(frame.UDP), talk4(1, 9).sctp(1)}
	given := uint64(0)
	for _, f := range frames {
		for at := range f.Buf {
			for _, x := range []byte{0, 1, 0x7f, 0xff, f.Buf[at] ^ 1, f.Buf[at] + 1} {
				r.give(changed(f, at, x), cutTo(f, at), shortTo(f, at))
				given += 3
			}
		}
	}
	total := uint64(0)
	for _, n := range r.Stats().Verdicts {
		total += n
	}
	if total != given {
		t.Fatalf("%d verdicts for %d frames", total, given)
	}
}

// TestFTPData: a connection from port 20 is a realserver's own, to a client; it is not scheduled.
func TestFTPData(t *testing.T) {
	r := start(t)
	someServices(r)
	r.expect(talk4(20, 80).tcp(frame.SYN), forwarder.NoFlow)
}

// TestSloppy: with sloppy_tcp and sloppy_sctp a director takes up flows in their midst, as after a
// failover.
func TestSloppy(t *testing.T) {
	r := start(t)
	someServices(r)
	r.set(func(s *forwarder.Settings) { s.SloppyTCP, s.SloppySCTP = true, true })
	r.expect(talk4(40000, 80).tcp(frame.ACK), forwarder.Forwarded)
	r.expect(talk4(40001, 80).tcp(frame.RST), forwarder.NoFlow)
	r.expect(talk4(40000, 9).sctp(0), forwarder.Forwarded)
	r.expect(talk4(40001, 9).sctp(6), forwarder.NoFlow)
}

// TestScheduleICMP: with schedule_icmp an error about an unknown flow makes one.
func TestScheduleICMP(t *testing.T) {
	r := start(t)
	someServices(r)
	r.set(func(s *forwarder.Settings) { s.ScheduleICMP = true })
	r.expect(talk4(40000, 80).icmpError(frame.TCP), forwarder.Forwarded)
	r.expect(talk4(40000, 8080).icmpError(frame.TCP), forwarder.NoICMPFlow)
	r.expect(talk4(40000, 81).icmpError(frame.TCP), forwarder.NoDestination)
	if n := r.Stats().Flows; n != 1 {
		t.Fatalf("%d flows, want that of the first error", n)
	}
	quote := r.conns()[0]
	if quote.Client != talk4(40000, 80).client || quote.Virtual != talk4(40000, 80).virtual {
		t.Fatalf("the flow is of %v to %v", quote.Client, quote.Virtual)
	}
}

// TestStrayICMP: an error about a flow that is not known goes where the flow itself would have
// gone, if that can be told, and leaves nothing behind.
func TestStrayICMP(t *testing.T) {
	port := func(s *forwarder.Service) { s.Options.Flags = scheduler.Port }
	persistent := func(s *forwarder.Service) { s.Persistence = time.Minute }
	onePacket := func(s *forwarder.Service) { s.OnePacket = true }
	for _, c := range []struct {
		name, sched string
		change      func(*forwarder.Service)
		template    bool // the client has one
		known       bool
	}{
		{"sh", "sh", nil, false, true},
		{"sh-port", "sh", port, false, true},
		{"mh", "mh", nil, false, true},
		{"mh-port", "mh", port, false, true},
		{"dh", "dh", nil, false, true},
		{"one packet", "sh", onePacket, false, true},
		{"persistence without a template", "sh", persistent, false, true},
		{"persistence", "wlc", persistent, true, true},
		{"persistence of a client that is not known", "wlc", persistent, false, false},
		{"rr", "rr", nil, false, false},
		{"wlc", "wlc", nil, false, false},
		{"lblc", "lblc", nil, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, vip := range []string{vip4, "[" + vip6 + "]"} {
				client := func(n int) string { return fmt.Sprintf("192.0.2.%d:4%d", n, 1000+n) }
				if vip != vip4 {
					client = func(n int) string { return fmt.Sprintf("[2001:db8:1::%x]:4%d", n, 1000+n) }
				}
				change := c.change
				if change == nil {
					change = func(*forwarder.Service) {}
				}
				r := start(t)
				r.serve(service("UDP "+vip+":53", c.sched, change), 1, 2, 3, 4)
				seen := map[int]bool{}
				for n := 1; n < 40; n++ {
					k := from(client(n), vip+":53")
					want := 0
					if c.template || c.known {
						want = serverOf(r.give(k.udp(1))[0])
						if !c.template && c.sched != "dh" {
							seen[want] = true
						}
						r.after(310 * time.Second) // the flow and a minute of persistence end
						if c.template {
							r.give(from(client(n)[:len(client(n))-2]+"99", vip+":53").udp(1))
						}
					}
					flows, counted := r.Stats().Flows, r.Services()[0].Counts
					out := r.give(k.icmpError(frame.UDP))
					switch {
					case !c.known:
						if len(out) != 0 {
							t.Fatalf("client %d: the error goes to %v", n, out)
						}
						continue
					case c.template:
						want = serverOf(r.give(from(client(n)[:len(client(n))-2]+"98", vip+":53").udp(1))[0])
						flows++
						counted.Flows++
						counted.Packets++
						counted.Bytes += uint64(r.bytesOf(k))
					}
					if len(out) != 1 || serverOf(out[0]) != want {
						t.Fatalf("client %d: the error goes to %v, the flow went to server %d", n, out, want)
					}
					counted.Packets++
					counted.Bytes += uint64(len(k.icmpError(frame.UDP).Buf) - 14)
					if got := r.Stats().Flows; got != flows || r.Services()[0].Counts != counted {
						t.Fatalf("client %d: %d flows and %+v, want %d and %+v", n, got, r.Services()[0].Counts, flows, counted)
					}
				}
				if c.known && !c.template && c.sched != "dh" && len(seen) < 2 {
					t.Fatalf("all clients are with servers %v: nothing is shown", seen)
				}
				r.set(func(s *forwarder.Settings) { s.StrayICMP = false })
				r.after(400 * time.Second)
				r.expect(from(client(1), vip+":53").icmpError(frame.UDP), forwarder.NoICMPFlow)
			}
		})
	}
}

// bytesOf is the length of the datagram of one byte that a talk sends, without Ethernet.
func (r *rig) bytesOf(k talk) int { return len(k.udp(1).Buf) - 14 }

// TestVLANInCapture: the tags of a capture are those of another host's legs, so they neither matter
// nor change.
func TestVLANInCapture(t *testing.T) {
	r := start(t, func(c *forwarder.Config) { c.Legs[0].AnyMAC = true })
	someServices(r)
	for _, f := range []frame.Frame{innerTag(talk4(1, 80).tcp(frame.SYN)), tagged(talk4(2, 80).tcp(frame.SYN), 0xa007)} {
		out := r.give(f)
		if len(out) != 1 || binary.BigEndian.Uint16(out[0].Buf[12:]) != binary.BigEndian.Uint16(f.Buf[12:]) || out[0].TCI != f.TCI {
			t.Fatalf("a tagged frame of a capture became %v", out)
		}
	}
}
