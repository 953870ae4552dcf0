package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// decode reads a frame with code that is not ours, and fails unless all lengths and checksums are
// what that code would have written. It returns the network layer and the one above.
func decode(t failer, b []byte) (network gopacket.NetworkLayer, above gopacket.Layer) {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("not readable: %v\n%x", e.Error(), b)
	}
	network = p.NetworkLayer()
	if network == nil {
		t.Fatalf("not IP: %v", p)
	}
	above = p.Layers()[2]
	var err error
	switch l := above.(type) {
	case *layers.TCP:
		err = l.SetNetworkLayerForChecksum(network)
	case *layers.UDP:
		err = l.SetNetworkLayerForChecksum(network)
	case *layers.ICMPv6:
		err = l.SetNetworkLayerForChecksum(network)
	}
	if err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		p.LinkLayer().(gopacket.SerializableLayer), network.(gopacket.SerializableLayer), above.(gopacket.SerializableLayer),
		gopacket.Payload(above.LayerPayload()))
	if err != nil {
		t.Fatal(err)
	}
	got := buf.Bytes()[:len(b)]
	if icmp, ok := above.(*layers.ICMPv4); ok && icmp.Checksum == 0xffff && binary.BigEndian.Uint16(got[36:]) == 0 {
		got[36], got[37] = 0xff, 0xff // the same number in ones' complement
	}
	if !bytes.Equal(got, b) {
		t.Fatalf("lengths or checksums are wrong:\n%x, should be\n%x", b, got)
	}
	return network, above
}

// answer gives a frame and returns the one answer to it, checked for what all answers have in
// common.
func answer(r *rig, f frame.Frame) (gopacket.NetworkLayer, gopacket.Layer) {
	r.Helper()
	out := r.give(f)
	if len(out) != 1 {
		r.Fatalf("%d frames come out, want one answer", len(out))
	}
	o := out[0]
	if o.Dst() != f.Src() || o.Src() != f.Dst() || o.Out != f.In || o.TPID != f.TPID || o.TCI != f.TCI {
		r.Fatalf("the answer does not go back where the frame came from: %+v", o)
	}
	if int(o.Wire) != len(o.Data()) {
		r.Fatalf("the answer has %d bytes and says %d", len(o.Data()), o.Wire)
	}
	network, above := decode(r, o.Data())
	p := gopacket.NewPacket(f.Data(), layers.LayerTypeEthernet, gopacket.Default)
	if network.NetworkFlow() != p.NetworkLayer().NetworkFlow().Reverse() {
		r.Fatalf("the answer is from %v, the frame was from %v", network.NetworkFlow(), p.NetworkLayer().NetworkFlow())
	}
	return network, above
}

// TestBuilders: what these tests send is what gopacket would have made.
func TestBuilders(t *testing.T) {
	for _, k := range []talk{talk4(40000, 80), talk6(40000, 80)} {
		decode(t, k.tcp(frame.SYN, 1, 2, 3).Buf)
		decode(t, k.udp(1, 2, 3).Buf)
		decode(t, k.icmpError(frame.TCP).Buf)
	}
	decode(t, talk4(0, 0).icmp(8, 0, 0, 1, 0, 1).Buf)
}

// TestReset: a segment for which there is no service is refused as a host refuses it (RFC 9293,
// 3.5.2): with a sequence number that the client believes.
func TestReset(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags uint8
		data  int
		seq   uint32
		ack   uint32
		acks  bool
	}{
		{"SYN", frame.SYN, 0, 0, 1001, true},
		{"SYN with data", frame.SYN, 5, 0, 1006, true},
		{"ACK", frame.ACK, 7, 2000, 0, false},
		{"FIN", frame.FIN, 0, 0, 1001, true},
		{"FIN, ACK", frame.FIN | frame.ACK, 0, 2000, 0, false},
		{"no flags", 0, 3, 0, 1003, true},
		{"SYN, FIN", frame.SYN | frame.FIN, 0, 0, 1002, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			for _, k := range []talk{talk4(40000, 8080), talk6(40000, 8080)} {
				_, above := answer(r, k.tcp(c.flags, make([]byte, c.data)...))
				tcp, ok := above.(*layers.TCP)
				if !ok {
					t.Fatalf("answered by %v", above)
				}
				if uint16(tcp.SrcPort) != 8080 || uint16(tcp.DstPort) != 40000 || !tcp.RST || tcp.SYN || tcp.FIN || tcp.ACK != c.acks ||
					tcp.Seq != c.seq || tcp.Ack != c.ack || len(tcp.Payload) != 0 {
					t.Fatalf("answered by %+v", tcp)
				}
			}
		})
	}
}

// TestRefusals: who is refused, and how. Nothing answers a RST, an ICMP error or what was sent to a
// group of hosts.
func TestRefusals(t *testing.T) {
	group := []byte{1, 0, 0x5e, 0, 0, 1}
	for _, c := range []struct {
		name  string
		frame frame.Frame
		want  string
	}{
		{"no service", talk4(40000, 8080).tcp(frame.SYN), "RST"},
		{"no service, RST", talk4(40000, 8080).tcp(frame.RST), ""},
		{"no service, UDP", talk4(40000, 8080).udp(1, 2, 3), "unreachable"},
		{"no service, UDP, IPv6", talk6(40000, 8080).udp(1, 2, 3), "unreachable"},
		{"no service, SCTP", talk4(40000, 8080).sctp(1), ""},
		{"no flow", talk4(40000, 80).tcp(frame.ACK), "RST"},
		{"no flow, IPv6", talk6(40000, 80).tcp(frame.ACK), "RST"},
		{"no realservers", talk4(40000, 81).tcp(frame.SYN), "unreachable"},
		{"an error about no flow", talk4(40000, 80).icmpError(frame.TCP), ""},
		{"from a group MAC", changed(talk4(40000, 8080).udp(), 6, group...), ""},
		{"another protocol", changed(talk4(40000, 80).tcp(frame.SYN), 23, 47), ""},
		{"no VIP", from(client4+":1", "203.0.113.11:80").tcp(frame.SYN), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			if c.want == "" {
				if out := r.give(c.frame); len(out) != 0 {
					t.Fatalf("answered by %v", out)
				}
				return
			}
			_, above := answer(r, tagged(c.frame, 0xa000)) // a priority: the answer has it too
			got := "unreachable"
			if _, ok := above.(*layers.TCP); ok {
				got = "RST"
			}
			if got != c.want || r.Stats().Answered != 1 {
				t.Fatalf("answered by %v", above)
			}
			r.set(func(s *forwarder.Settings) { s.Silent = true })
			if out := r.give(c.frame); len(out) != 0 || r.Stats().Answered != 1 || r.Stats().Limited != 0 {
				t.Fatalf("a silent director answers %v", out)
			}
		})
	}
}

// TestUnreachable: "port unreachable" quotes the packet, as much of it as the family's rules allow,
// so that the client can tell which of its sockets it is about.
func TestUnreachable(t *testing.T) {
	r := start(t)
	someServices(r)
	for _, size := range []int{0, 1, 100, 513, 1400} {
		f := talk4(40000, 8080).udp(make([]byte, size)...)
		network, above := answer(r, f)
		icmp, ip := above.(*layers.ICMPv4), network.(*layers.IPv4)
		if icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 3) || icmp.Id != 0 || icmp.Seq != 0 || ip.TTL != 64 || ip.TOS != 0xc0 {
			t.Fatalf("%+v in %+v", icmp, ip)
		}
		if quote := f.Buf[14:]; !bytes.Equal(icmp.Payload, quote[:min(len(quote), 548)]) { // RFC 1812, 4.3.2.3: 576 in all
			t.Fatalf("of %d bytes %d are quoted: %x", len(quote), len(icmp.Payload), icmp.Payload)
		}
		f = talk6(40000, 8080).udp(make([]byte, size)...)
		network, above = answer(r, f)
		icmp6 := above.(*layers.ICMPv6)
		if icmp6.TypeCode != layers.CreateICMPv6TypeCode(1, 4) || network.(*layers.IPv6).HopLimit != 64 {
			t.Fatalf("%+v in %+v", icmp6, network)
		}
		unused, quoted := icmp6.Payload[:4], icmp6.Payload[4:]
		quote := f.Buf[14:]
		if !bytes.Equal(unused, make([]byte, 4)) || !bytes.HasPrefix(quote, quoted) || len(quoted) < min(len(quote), 500) || len(quoted) > 1232 {
			t.Fatalf("of %d bytes %d are quoted: %x", len(quote), len(quoted), quoted)
		}
	}
}

// TestUnreachableIgnoresPadding: what fills an Ethernet frame up is not the packet's and is not
// quoted.
func TestUnreachableIgnoresPadding(t *testing.T) {
	r := start(t)
	someServices(r)
	f := talk4(40000, 8080).udp(7)
	want := len(f.Buf) - 14
	f.Buf = append(f.Buf, make([]byte, 20)...)
	f.Wire += 20
	if _, above := answer(r, f); len(above.LayerPayload()) != want {
		t.Fatalf("%d bytes are quoted, want %d", len(above.LayerPayload()), want)
	}
}

// TestEcho: a ping comes back with its identifier, number and data, whatever they are.
func TestEcho(t *testing.T) {
	r := start(t)
	someServices(r)
	rapid.Check(t, func(t *rapid.T) {
		r.after(time.Second) // the rate is not the matter here
		data := rapid.SliceOfN(rapid.Byte(), 4, 1200).Draw(t, "data")
		k, request, reply := talk4(0, 0), byte(8), byte(0)
		if rapid.Bool().Draw(t, "IPv6") {
			k, request, reply = talk6(0, 0), 128, 129
		}
		f := k.icmp(request, 0, data...)
		r.failer = t
		network, _ := answer(r, f)
		got := network.LayerPayload()
		if got[0] != reply || got[1] != 0 || !bytes.Equal(got[4:], data) {
			t.Fatalf("%x is answered by %x", f.Buf, got)
		}
	})
	if s := r.Stats(); s.Answered != 0 || s.Verdicts[forwarder.Echoed] == 0 {
		t.Fatalf("echo replies are counted as packets made: %d", s.Answered)
	}
}

// TestEchoOfNothing: a message of zeros is the one case in which the checksum of the reply is not
// what it would be in whole numbers. Its receiver adds all words up and wants to see 0xffff.
func TestEchoOfNothing(t *testing.T) {
	r := start(t)
	someServices(r)
	for _, rest := range [][]byte{make([]byte, 4), make([]byte, 60), {0xff, 0xff, 0, 0}, {0, 1, 0xff, 0xfe}} {
		out := r.give(talk4(0, 0).icmp(8, 0, rest...))
		if len(out) != 1 || checksum(out[0].Buf[34:], 0) != 0 {
			t.Fatalf("%x is answered by %x", rest, out[0].Buf[34:])
		}
	}
}

// TestEchoChecksumZero: the checksum of an ICMPv6 reply may be 0.
func TestEchoChecksumZero(t *testing.T) {
	r := start(t)
	someServices(r)
	network, _ := answer(r, talk6(0, 0).icmp(128, 0, 0x07, 0x4d, 0x17, 0x77, 0x36, 0xbe, 0x52, 0xca, 0x7a, 0xde))
	if got := network.LayerPayload(); got[2] != 0 || got[3] != 0 {
		t.Fatalf("the checksum is %x, want 0", got[2:4])
	}
}

// TestManyPings: all pings of a batch are answered, each in its own frame.
func TestManyPings(t *testing.T) {
	r := start(t)
	someServices(r)
	var batch []frame.Frame
	for n := range forwarder.BatchSize {
		batch = append(batch, talk4(0, 0).icmp(8, 0, 0, 1, 0, byte(n)))
	}
	if out := r.give(batch...); len(out) != len(batch) || out[63].Buf[41] != 63 {
		t.Fatalf("%d of %d pings are answered", len(out), len(batch))
	}
}

// TestAnswerRate: all answers together are bounded, 1000 a second and 250 at once, and those that
// are not given are counted.
func TestAnswerRate(t *testing.T) {
	r := start(t)
	someServices(r)
	burst := func(n int) (answered int) {
		for range n {
			answered += len(r.give(talk4(40000, 8080).tcp(frame.SYN), talk4(40000, 8080).udp(), talk4(0, 0).icmp(8, 0, 0, 0, 0, 0)))
		}
		return answered
	}
	if got := burst(100); got != 250 {
		t.Fatalf("%d answers at once, want 250", got)
	}
	if got := r.Stats().Limited; got != 50 {
		t.Fatalf("%d answers were not given, want 50", got)
	}
	r.after(100 * time.Millisecond)
	if got := burst(100); got != 96 { // 50 were not given, each at a sixteenth of an answer
		t.Fatalf("%d answers after 100 ms, want 96", got)
	}
	r.after(time.Hour)
	if got := burst(100); got != 250 {
		t.Fatalf("%d answers after an hour, want 250", got)
	}
}

// TestAnswersInAFlood: whatever a flood consists of, few answers come of it; a second after it
// everything is answered again.
func TestAnswersInAFlood(t *testing.T) {
	for name, f := range map[string]frame.Frame{
		"pings": talk4(0, 0).icmp(8, 0, 0, 0, 0, 0), "closed TCP port": talk4(40000, 8080).tcp(frame.SYN), "closed UDP port": talk4(40000, 8080).udp(),
		"ACK": talk4(40000, 80).tcp(frame.ACK),
	} {
		r := start(t)
		someServices(r)
		r.after(time.Hour)
		sent, answered := 0, 0
		for range 1000 { // 20 a millisecond
			for range 20 {
				sent++
				answered += len(r.give(f))
			}
			r.after(time.Millisecond)
		}
		if answered*20 > sent || answered < 250 {
			t.Errorf("%s: %d answers to %d frames", name, answered, sent)
		}
		r.after(time.Second)
		if len(r.give(f)) != 1 {
			t.Errorf("%s: no answer after the flood", name)
		}
	}
}

// TestAnswersOfOneBatch: one batch may ask for more answers than there is room; the others are
// limited, and no two answers share their bytes.
func TestAnswersOfOneBatch(t *testing.T) {
	r := start(t)
	someServices(r)
	var batch []frame.Frame
	for n := range uint16(forwarder.BatchSize) {
		batch = append(batch, talk4(1024+n, 8080).tcp(frame.SYN))
	}
	out := r.give(batch...)
	for i, o := range out {
		_, above := decode(t, o.Data())
		if port := binary.BigEndian.Uint16(above.LayerContents()[2:]); port != 1024+uint16(i) {
			t.Fatalf("answer %d goes to port %d", i, port)
		}
	}
	if s := r.Stats(); len(out) == 0 || s.Answered != uint64(len(out)) || s.Answered+s.Limited != forwarder.BatchSize {
		t.Fatalf("%d frames come out: %d answered, %d limited", len(out), s.Answered, s.Limited)
	}
}
