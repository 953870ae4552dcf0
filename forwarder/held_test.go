package forwarder_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// early is a fragment of datagram id whose first has not come.
func early(id uint16) frame.Frame {
	k := talk4(40000, 53)
	return k.pieces(k.udp(data(100)...), id, 64)[1]
}

func firstOf(id uint16) frame.Frame {
	k := talk4(40000, 53)
	return k.pieces(k.udp(data(100)...), id, 64)[0]
}

// TestHeldTimeOut: a fragment whose first does not come is dropped after the kernel's times.
func TestHeldTimeOut(t *testing.T) {
	k6 := talk6(40000, 53)
	for _, c := range []struct {
		name  string
		early frame.Frame
		first frame.Frame
		life  time.Duration
	}{
		{"IPv4", early(1), firstOf(1), 30 * time.Second},
		{"IPv6", k6.pieces(k6.udp(data(100)...), 1, 64)[1], k6.pieces(k6.udp(data(100)...), 1, 64)[0], time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			r.give(c.early)
			r.after(c.life - time.Millisecond)
			if r.Stats().Held != 1 {
				t.Fatal("dropped too early")
			}
			r.after(time.Millisecond)
			if s := r.Stats(); s.Held != 0 || s.Verdicts[forwarder.Fragment] != 1 {
				t.Fatalf("%d held, %d dropped", s.Held, s.Verdicts[forwarder.Fragment])
			}
			if out := r.give(c.first); len(out) != 1 { // a new datagram
				t.Fatalf("%d go out", len(out))
			}
			r.after(c.life / 2)
			r.give(c.early)
			if s := r.Stats(); s.Verdicts[forwarder.Forwarded] != 2 {
				t.Fatalf("%v", s.Verdicts)
			}
		})
	}
}

// TestHeldTimeOutIdle: time passes without frames too.
func TestHeldTimeOutIdle(t *testing.T) {
	r := start(t)
	someServices(r)
	r.give(early(1))
	src := &pauses{now: r.now}
	r.must(r.Worker(0).Run(context.Background(), src, &sliceSink{}))
	if s := r.Stats(); s.Held != 0 || s.Verdicts[forwarder.Fragment] != 1 {
		t.Fatalf("%d held, %d dropped", s.Held, s.Verdicts[forwarder.Fragment])
	}
}

// pauses is a Source that lets 40 seconds pass without a frame, and ends.
type pauses struct {
	sliceSource
	now   int64
	calls int
}

func (p *pauses) Next(batch []frame.Frame) (int, int64, error) {
	if p.calls++; p.calls > 4 {
		return p.sliceSource.Next(batch)
	}
	p.now += int64(10 * time.Second)
	return 0, p.now, nil
}

// TestHeldFull: when all places are taken the datagram gives way whose fragment was held longest,
// and is given up as a whole.
func TestHeldFull(t *testing.T) {
	const places = 64
	r := start(t)
	someServices(r)
	for id := range uint16(places + 10) {
		r.give(early(id))
	}
	if s := r.Stats(); s.Held != places || s.Verdicts[forwarder.Fragment] != places+10 {
		t.Fatalf("%d held, %d counted", s.Held, s.Verdicts[forwarder.Fragment])
	}
	for id := range uint16(places + 10) {
		want := 2
		if id < 10 {
			want = 0
		}
		if got := len(r.give(firstOf(id))); got != want {
			t.Fatalf("of datagram %d %d go out, want %d", id, got, want)
		}
	}
	s := r.Stats()
	if s.Held != 0 || s.Verdicts[forwarder.Forwarded] != 2*places || s.Verdicts[forwarder.Fragment] != 20 {
		t.Fatalf("%d held, %v", s.Held, s.Verdicts)
	}
}

// TestHeldAreLent: what goes out is not overwritten before the next call, even when the same batch
// has more to hold.
func TestHeldAreLent(t *testing.T) {
	const places = 64
	r := start(t)
	someServices(r)
	for id := range uint16(places) {
		r.give(early(id))
	}
	var batch []frame.Frame
	for id := range uint16(places / 2) {
		batch = append(batch, firstOf(id), early(1000+id))
	}
	seen := map[uint16]int{}
	for _, o := range r.give(batch...) {
		seen[binary.BigEndian.Uint16(o.Buf[18:])]++
	}
	for id := range uint16(places / 2) {
		if seen[id] != 0 && seen[id] != 2 || seen[1000+id] != 0 {
			t.Fatalf("of datagram %d %d went out; of %d, %d", id, seen[id], 1000+id, seen[1000+id])
		}
	}
	total := uint64(0)
	r.after(time.Minute)
	for _, n := range r.Stats().Verdicts {
		total += n
	}
	if total != places+uint64(len(batch)) || r.Stats().Held != 0 {
		t.Fatalf("%d verdicts for %d frames", total, places+len(batch))
	}
}

// TestFragmentFlood: more incomplete datagrams than are remembered, at no cost to those that are in
// order.
func TestFragmentFlood(t *testing.T) {
	r := start(t)
	someServices(r)
	given := uint64(0)
	for n := range uint32(20000) {
		k := talk4(40000, 53)
		k.client = netip.AddrPortFrom(frame.AddrFrom4(100<<24|n).Netip(), 40000)
		r.give(k.pieces(k.udp(data(100)...), 1, 64)[1])
		given++
		if n%100 == 0 {
			k := talk4(uint16(n/100), 53)
			if out := r.give(k.pieces(k.udp(data(100)...), uint16(n), 64)...); len(out) != 2 {
				t.Fatalf("of a datagram in order %d fragments go out", len(out))
			}
			given += 2
		}
	}
	if got := r.total(); got != given {
		t.Fatalf("%d verdicts for %d frames", got, given)
	}
}

// TestFragmentsDoNotAllocate: neither do fragments, in whatever order.
func TestFragmentsDoNotAllocate(t *testing.T) {
	r := start(t)
	someServices(r)
	var frames []frame.Frame
	for id := range uint16(8) {
		k := talk4(40000+id, 53)
		f := k.pieces(k.udp(data(200)...), id, 64, 128)
		if id%2 == 0 {
			slices.Reverse(f)
		}
		frames = append(frames, f...)
		frames = append(frames, early(1000+id))
	}
	reel, w := newReel(frames...), r.Worker(0)
	if n := testing.AllocsPerRun(200, func() {
		r.now += second / 10
		w.Process(reel.rewind(), r.now)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
	if s := r.Stats(); s.Verdicts[forwarder.Forwarded] < 200*24 {
		t.Fatalf("%v", s.Verdicts)
	}
}

// FuzzFragments gives fragments of two datagrams with whatever offsets, lengths and times: each
// byte string is a list of them. Each is counted once, and goes out at most once and unchanged.
func FuzzFragments(f *testing.F) {
	f.Add([]byte{0, 8, 1, 0, 8, 8, 0, 0})
	f.Add([]byte{8, 8, 0, 0, 0, 8, 1, 0})
	f.Add([]byte{0, 8, 1, 0, 4, 8, 0, 0, 16, 1, 2, 200})
	f.Add([]byte{1, 1, 5, 0, 3, 1, 5, 0, 5, 1, 5, 0, 7, 1, 5, 0, 9, 1, 5, 0, 11, 1, 5, 0, 13, 1, 5, 0, 15, 1, 5, 0, 17, 1, 5, 0, 0, 8, 5, 0})
	next := reused(f, func(t failer) *rig {
		r := newRig(t)
		someServices(r)
		return r
	})
	payload := talk4(40000, 53).udp(data(255*8 + 255)...).Buf[34:]
	f.Fuzz(func(t *testing.T, list []byte) {
		r := next(t)
		given := r.total()
		lent := map[string]int{}
		for list = list[:min(len(list), 4*16)]; len(list) >= 4; list = list[4:] {
			from, n, flags, pause := int(list[0])*8, int(list[1])*8, list[2], list[3]
			k := talk4(40000, 53)
			if flags&2 != 0 {
				k = talk6(40000, 53)
			}
			if flags&8 != 0 {
				n += int(flags >> 5)
			}
			proto := frame.UDP
			if flags&16 != 0 {
				proto = frame.TCP
			}
			one := k.part(proto, uint16(flags>>2&1), payload, min(from, len(payload)), min(from+n, len(payload)), flags&1 != 0)
			r.after(time.Duration(pause) * time.Second)
			lent[string(one.Buf[12:])]++
			given++
			for _, o := range r.give(one) {
				if lent[string(o.Buf[12:])]--; lent[string(o.Buf[12:])] < 0 && o.Dst() != routerMAC {
					t.Fatalf("%x goes out and did not come in", o.Buf)
				}
			}
		}
		r.after(time.Minute)
		if r.Stats().Held != 0 || r.total() != given {
			t.Fatalf("%d held, %d verdicts for %d frames", r.Stats().Held, r.total(), given)
		}
	})
}
