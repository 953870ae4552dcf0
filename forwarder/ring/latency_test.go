package ring

import (
	"testing"
	"time"

	"shunt/forwarder/frame"
)

func TestSampler(t *testing.T) {
	w, k := newRing(DefaultSlots, DefaultSlotSize, 4096)
	k.put(whole(60), nil)
	var sl slot
	if w.take(&sl) != good {
		t.Fatal("nothing to take")
	}
	const came = 1_700_000_000*1e9 + 5
	h := w.mem[w.tail.off:]
	hostOrder.PutUint32(h[offSec:], 1_700_000_000)
	hostOrder.PutUint32(h[offNsec:], 5)

	var s sampler
	// due is whether a batch at a time is sampled.
	due := func(now int64, w *walker) bool { s.begin(now, w); return s.stamp != 0 }
	if !due(sampleEvery, w) || s.stamp != came {
		t.Fatalf("the first batch: the stamp is %d, want %d", s.stamp, int64(came))
	}
	s.end(came + 7_000)
	if s.stamp != 0 {
		t.Error("a frame that was timed would be timed again")
	}
	if due(2*sampleEvery-1, w) {
		t.Error("sampled before it is time to")
	}
	for i, age := range []int64{5_000, 5_001, 2e9, -1, implausible + 1} {
		if !due(int64(i+2)*sampleEvery, w) {
			t.Fatalf("sample %d: it was time to", i)
		}
		s.end(came + age)
	}
	got := s.read()
	if got.Count() != 4 || got.Counts[0] != 1 || got.Counts[1] != 2 || got.Counts[len(got.Bounds)] != 1 || got.Sum != 7_000+5_000+5_001+2e9 {
		t.Errorf("histogram %+v", got)
	}
	w.giveBack()
	if due(100*sampleEvery, w) {
		t.Error("sampled with nothing lent")
	}
	s.off = true
	if due(200*sampleEvery, w) {
		t.Error("sampled although it is off")
	}
}

// A frame that passes a real ring is timed by the kernel's stamp and ours.
func TestLatencyOfAFrame(t *testing.T) {
	wires := newLab(t, 2)
	in, out := wires[0], wires[1]
	e := open(t, Config{Legs: []LegConfig{in.leg(0), out.leg(1)}}, vip4)
	sender := open(t, Config{Legs: []LegConfig{{Leg: 0, Name: in.peer.Attrs().Name}}})
	f := []frame.Frame{{Buf: append(append([]byte(nil), noHeader[:]...), in.frame(datagram(vip4, 100))...), Head: vnetLen, Out: 0}}
	if lost := sender.Send(f); lost.Total() != 0 {
		t.Fatalf("lost %+v", lost)
	}
	batch := make([]frame.Frame, 8)
	n := 0
	for end := time.Now().Add(patient); n == 0; {
		var err error
		if n, _, err = e.Next(batch); err != nil || time.Now().After(end) {
			t.Fatalf("no frame came: %v", err)
		}
	}
	batch[0].Out = 1
	e.Send(batch[:n])
	if l := e.Stats().Latency; l.Count() != 1 || l.Sum <= 0 || l.Sum > patient {
		t.Errorf("latency %+v", l)
	}
}

// BenchmarkSampler is what timing costs a batch: nothing to speak of when no sample is due, and
// with one that is due in each, which never happens more than a hundred times a second, two
// readings of a slot and a clock.
func BenchmarkSampler(b *testing.B) {
	w, k := newRing(DefaultSlots, DefaultSlotSize, 4096)
	k.put(whole(60), nil)
	var sl slot
	if w.take(&sl) != good {
		b.Fatal("nothing to take")
	}
	for name, step := range map[string]int64{"rare": 1000, "each": sampleEvery} {
		b.Run(name, func(b *testing.B) {
			var s sampler
			now := int64(sampleEvery)
			for b.Loop() {
				now += step
				s.begin(now, w)
				if s.stamp != 0 {
					s.end(time.Now().UnixNano())
				}
			}
		})
	}
}
