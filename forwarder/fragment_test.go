package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// part is a fragment of a payload: bytes from to to-1.
func (k talk) part(proto frame.Proto, id uint16, payload []byte, from, to int, more bool) frame.Frame {
	if k.virtual.Addr().Is6() {
		h := []byte{byte(proto), 0, byte(from >> 8), byte(from), 0, 0, byte(id >> 8), byte(id)}
		if more {
			h[3] |= 1
		}
		return k.whole(44, append(h, payload[from:to]...))
	}
	off := uint16(from / 8)
	if more {
		off |= 0x2000
	}
	return changed(k.whole(proto, payload[from:to]), 18, byte(id>>8), byte(id), byte(off>>8), byte(off))
}

// pieces cuts the payload of a whole packet at these offsets.
func (k talk) pieces(whole frame.Frame, id uint16, cuts ...int) (out []frame.Frame) {
	b := whole.Data()[14:]
	proto, hl := b[9], 20
	if k.virtual.Addr().Is6() {
		proto, hl = b[6], 40
	}
	payload := b[hl:]
	from := 0
	for _, to := range append(cuts, len(payload)) {
		out = append(out, k.part(frame.Proto(proto), id, payload, from, to, to < len(payload)))
		from = to
	}
	return out
}

// total adds up all verdicts.
func (r *rig) total() (n uint64) {
	for _, v := range r.Stats().Verdicts {
		n += v
	}
	return n
}

// data is n bytes that differ.
func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// A fragmentCase is fragments that come one after the other, and what becomes of each in the end.
type fragmentCase struct {
	name   string
	frames []frame.Frame
	want   []forwarder.Verdict // of all of them, sorted as the frames
	out    string              // which go out when, by their numbers: "-" ends a frame's turn
	before func(r *rig)
}

func fragmentCases() []fragmentCase {
	const (
		ok   = forwarder.Forwarded
		frag = forwarder.Fragment
	)
	k, k6, none := talk4(40000, 53), talk6(40000, 53), talk4(40000, 54)
	f := k.pieces(k.udp(data(200)...), 7, 64, 128)
	v6 := k6.pieces(k6.udp(data(200)...), 7, 64, 128)
	refused := none.pieces(none.udp(data(200)...), 8, 64, 128)
	tcp := talk4(40000, 80)
	syn := tcp.tcp(frame.SYN, data(100)...)
	wide := k.pieces(k.udp(data(4000)...), 9, 64, 2400)
	ping := talk4(0, 0).icmp(8, 0, data(100)...)
	tooBig := tcp.icmpError(frame.TCP)
	payload := k.udp(data(200)...).Buf[34:]
	part := func(from, to int, more bool) frame.Frame { return k.part(frame.UDP, 7, payload, from, to, more) }
	six := func(from, to int, more bool) frame.Frame { return k6.part(frame.UDP, 7, payload, from, to, more) }
	shown := func(v forwarder.Verdict, n int) []forwarder.Verdict { return slices.Repeat([]forwarder.Verdict{v}, n) }
	options := clone(v6[1]) // a later fragment of a packet whose first has destination options behind the fragment header
	options.Buf[54] = 60
	return []fragmentCase{
		{"in order", f, shown(ok, 3), "0-1-2-", nil},
		{"backwards", []frame.Frame{f[2], f[1], f[0]}, shown(ok, 3), "--210-", nil},
		{"the first in the middle", []frame.Frame{f[1], f[0], f[2]}, shown(ok, 3), "-10-2-", nil},
		{"IPv6, in order", v6, shown(ok, 3), "0-1-2-", nil},
		{"IPv6, backwards", []frame.Frame{v6[2], v6[1], v6[0]}, shown(ok, 3), "--210-", nil},
		{"IPv6, another next header", []frame.Frame{options, v6[0], v6[2]}, shown(ok, 3), "-10-2-", nil},
		{"one is missing", []frame.Frame{f[0], f[2]}, shown(ok, 2), "0-1-", nil},
		{"the first is missing", f[1:], shown(frag, 2), "--", nil},
		{"one twice", []frame.Frame{f[0], f[1], f[1], f[2]}, []forwarder.Verdict{ok, ok, ok, frag}, "0-1--3-", nil},
		{"one twice before the first", []frame.Frame{f[1], f[1], f[0], f[2]}, []forwarder.Verdict{ok, ok, ok, frag}, "--20-3-", nil},
		{"the first twice", []frame.Frame{f[0], f[0], f[1], f[2]}, []forwarder.Verdict{ok, ok, ok, frag}, "0--2-3-", nil},
		{"the id again, after the end", append(slices.Clone(f), f...), shown(ok, 6), "0-1-2-3-4-5-", nil},
		{"overlapping", []frame.Frame{f[0], part(56, 128, true), f[2]}, []forwarder.Verdict{ok, frag, frag}, "0---", nil},
		{"overlapping before the first", []frame.Frame{f[1], part(120, 208, false), f[0]}, shown(frag, 3), "---", nil},
		{"overlapping, IPv6", []frame.Frame{v6[0], six(56, 128, true), v6[2]}, []forwarder.Verdict{ok, frag, frag}, "0---", nil},
		{"around another", []frame.Frame{f[1], part(56, 136, true)}, shown(frag, 2), "--", nil},
		{"beyond the end", []frame.Frame{f[0], f[1], part(128, 200, false), part(200, 208, false)}, []forwarder.Verdict{ok, ok, ok, frag}, "0-1-2--",
			nil},
		{"the end before what came", []frame.Frame{f[0], part(128, 208, true), part(64, 128, false)}, []forwarder.Verdict{ok, ok, frag}, "0-1--", nil},
		{"two ends", []frame.Frame{f[0], part(128, 200, false), part(120, 128, false)}, []forwarder.Verdict{ok, ok, frag}, "0-1--", nil},
		{"7 bytes and more", []frame.Frame{f[0], part(64, 71, true), f[2]}, []forwarder.Verdict{ok, frag, frag}, "0---", nil},
		{"no bytes", []frame.Frame{f[0], part(64, 64, true), f[2]}, []forwarder.Verdict{ok, frag, frag}, "0---", nil},
		{"longer than a datagram can be", []frame.Frame{f[0], changed(f[1], 20, 0x1f, 0xfe)}, []forwarder.Verdict{ok, frag}, "0--", nil},
		{"no service", refused, shown(forwarder.NoService, 3), "--a-", nil},
		{"no service, backwards", []frame.Frame{refused[2], refused[1], refused[0]}, shown(forwarder.NoService, 3), "--a-", nil},
		{"TCP", tcp.pieces(syn, 7, 24, 48), shown(ok, 3), "0-1-2-", nil},
		{"a tiny first", tcp.pieces(syn, 7, 16, 48), []forwarder.Verdict{forwarder.BadTransport, forwarder.BadTransport, forwarder.BadTransport}, "---", nil},
		{"flags overwritten", append(tcp.pieces(syn, 7, 24)[:1], tcp.part(frame.TCP, 7, data(100), 8, 32, true)), []forwarder.Verdict{ok, frag}, "0--", nil},
		{"too long to be held", []frame.Frame{wide[1], wide[0], wide[2]}, shown(frag, 3), "---", nil},
		{"long, but in order", wide, shown(ok, 3), "0-1-2-", nil},
		{"ping", talk4(0, 0).pieces(ping, 7, 64), shown(frag, 2), "--", nil},
		{"ICMP error", talk4(0, 0).pieces(tooBig, 7, 40), shown(ok, 2), "0-1-", with(syn)},
		{"ICMPv6 error", talk6(0, 0).pieces(talk6(40000, 80).icmpError(frame.TCP), 7, 64), shown(frag, 2), "--", with(talk6(40000, 80).tcp(frame.SYN))},
		{"GRE", []frame.Frame{changed(f[0], 23, 47), changed(f[1], 23, 47)}, shown(forwarder.OtherProto, 2), "--", nil},
		{"GRE, IPv6", []frame.Frame{k6.part(47, 7, payload, 0, 64, true), k6.part(47, 7, payload, 64, 208, false)}, shown(forwarder.OtherProto, 2), "--", nil},
		{"one datagram each protocol", []frame.Frame{f[1], tcp.pieces(syn, 7, 24)[0], f[0]}, shown(ok, 3), "-1-20-", nil},
		{"no MAC", []frame.Frame{f[1], f[0], f[2]}, shown(forwarder.Unresolved, 3), "---", func(r *rig) {
			r.give(k.udp())
			r.must(r.SetNeighbour(0, server(1, false), frame.MAC{}))
		}},
		{"no realserver", []frame.Frame{f[1], f[0], f[2]}, shown(forwarder.NoDestination, 3), "-a--", func(r *rig) {
			r.must(r.SetNeighbour(0, server(1, false), frame.MAC{}))
			r.must(r.SetNeighbour(0, server(2, false), frame.MAC{}))
		}},
	}
}

// TestFragments checks what becomes of fragments: which go out, behind which, and that each is
// counted once.
func TestFragments(t *testing.T) {
	for _, c := range fragmentCases() {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			if c.before != nil {
				c.before(r)
			}
			before := r.Stats().Verdicts
			given := r.total()
			came := ""
			for n, f := range c.frames {
				for _, o := range r.give(f) {
					at := slices.IndexFunc(c.frames[:n+1], func(f frame.Frame) bool { return bytes.Equal(f.Buf[12:], o.Buf[12:]) })
					if at < 0 || len(c.frames) == 6 && n > 2 {
						at = n // the whole once more
					}
					name := fmt.Sprint(at)
					if o.Dst() == routerMAC {
						name = "a"
					} else if serverOf(o) != 1 {
						t.Fatalf("%v goes to another realserver", o)
					}
					came += name
				}
				came += "-"
				if got := r.total() - given; got != uint64(n+1) {
					t.Fatalf("%d verdicts for %d frames", got, n+1)
				}
			}
			// The held ones go out behind the first, in the order of their offsets.
			if came != c.out {
				t.Errorf("%s went out, want %s", came, c.out)
			}
			r.after(2 * time.Minute)
			var got []forwarder.Verdict
			for v, n := range r.Stats().Verdicts {
				got = append(got, slices.Repeat([]forwarder.Verdict{forwarder.Verdict(v)}, int(n-before[v]))...)
			}
			want := slices.Sorted(slices.Values(c.want))
			if !slices.Equal(got, want) || r.Stats().Held != 0 {
				t.Fatalf("found %v, want %v; %d are held", got, want, r.Stats().Held)
			}
		})
	}
}

// TestFragmentsInAnyOrder: whatever the order in which the fragments of some datagrams come, and
// however batches cut it, each goes out once and unchanged, to the realserver to which the whole
// would have gone.
func TestFragmentsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t, func(c *forwarder.Config) { c.Exact = rapid.Bool().Draw(t, "exact") })
		defer func() { r.must(r.Close()) }()
		someServices(r)
		home := map[uint16]int{} // by client port
		of := map[string]uint16{}
		var all []frame.Frame
		for n := range rapid.IntRange(1, 6).Draw(t, "datagrams") {
			port := uint16(1024 + n)
			k := talk4(port, 53)
			if rapid.Bool().Draw(t, "IPv6") {
				k = talk6(port, 53)
			}
			home[port] = serverOf(r.give(k.udp())[0])
			d := append([]byte{byte(n)}, data(rapid.IntRange(60, 1900).Draw(t, "length"))...)
			var cuts []int
			for at := 8; ; {
				if at += 8 * rapid.IntRange(0, 40).Draw(t, "cut"); at >= len(d)+8 || len(cuts) == 9 {
					break
				}
				cuts = append(cuts, at)
				at += 8
			}
			for _, f := range k.pieces(k.udp(d...), 500, cuts...) { // one id for all: ports and families tell them apart
				f = changedID(f, uint16(n))
				of[string(f.Buf[12:])] = port
				all = append(all, f)
			}
		}
		numbers := make([]int, len(all))
		for i := range numbers {
			numbers[i] = i
		}
		var mixed []frame.Frame
		for _, i := range rapid.Permutation(numbers).Draw(t, "order") {
			mixed = append(mixed, all[i])
		}
		all = mixed
		given := r.total()
		came := map[string]bool{}
		for left := all; len(left) > 0; {
			n := min(rapid.IntRange(1, forwarder.BatchSize).Draw(t, "batch"), len(left))
			r.now += int64(time.Millisecond)
			for _, o := range r.give(slices.Clone(left[:n])...) {
				b := string(o.Buf[12:])
				port, known := of[b]
				if !known || came[b] {
					t.Fatalf("%x goes out, twice or changed", o.Buf)
				}
				if serverOf(o) != home[port] || int(o.Wire) != len(o.Buf) {
					t.Fatalf("a fragment of port %d goes to %d, want %d", port, serverOf(o), home[port])
				}
				came[b] = true
			}
			left = left[n:]
		}
		if len(came) != len(all) || r.total()-given != uint64(len(all)) || r.Stats().Held != 0 {
			t.Fatalf("of %d fragments %d go out; %d verdicts, %d held", len(all), len(came), r.total()-given, r.Stats().Held)
		}
	})
}

// changedID gives a fragment another id.
func changedID(f frame.Frame, id uint16) frame.Frame {
	if f.Buf[12] == 0x08 {
		return changed(f, 18, byte(id>>8), byte(id))
	}
	f = clone(f)
	binary.BigEndian.PutUint16(f.Buf[60:], id)
	return f
}

// TestFragmentCounts: the destination counts each fragment, and the flow the datagram.
func TestFragmentCounts(t *testing.T) {
	r := start(t)
	someServices(r)
	k := talk4(40000, 53)
	f := k.pieces(k.udp(data(200)...), 7, 64, 128)
	r.give(f[2])
	r.give(f[0], f[1])
	for _, s := range r.Services() {
		if s.Key().String() != "UDP "+vip4+":53" {
			continue
		}
		want := forwarder.Counts{Flows: 1, Packets: 3, Bytes: 3*20 + 208}
		if s.Counts != want || s.Destinations[0].Counts != want {
			t.Fatalf("%+v and %+v, want %+v", s.Counts, s.Destinations[0].Counts, want)
		}
	}
	if c := r.conns(); len(c) != 1 || c[0].Packets != 1 {
		t.Fatalf("the flow is %+v", c)
	}
}

// TestOnePacketFragments: a service that remembers no flows still sends a datagram to one
// realserver.
func TestOnePacketFragments(t *testing.T) {
	r := start(t)
	r.serve(service("UDP "+vip4+":53", "rr", func(s *forwarder.Service) { s.OnePacket = true }), 1, 2, 3)
	k := talk4(40000, 53)
	for id := range uint16(6) {
		f := k.pieces(k.udp(data(200)...), id, 64, 128)
		want := int(id)%3 + 1
		if r.give(f[2]); r.Stats().Held != 1 {
			t.Fatal("not held")
		}
		for _, o := range r.give(f[0], f[1]) {
			if serverOf(o) != want {
				t.Fatalf("datagram %d goes to %d, want %d", id, serverOf(o), want)
			}
		}
	}
}
