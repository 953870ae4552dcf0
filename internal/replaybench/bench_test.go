package replaybench

import (
	"testing"
	"time"

	"shunt/forwarder"
)

// measure reports what a frame of a Lender costs: the cheapest of some runs, since whatever else
// happens only adds.
func measure(b *testing.B, l *Lender) {
	var best Cost
	for b.Loop() {
		c, err := l.Run(1_000_000)
		if err != nil {
			b.Fatal(err)
		}
		if best.Frames == 0 || c.CPU < best.CPU {
			best = c
		}
	}
	b.ReportMetric(best.PerFrame(), "cpu-ns/frame")
	b.ReportMetric(0, "ns/op")
}

func newRig(b *testing.B, s Setup) *Rig {
	r, err := NewRig(s)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	return r
}

// BenchmarkKnown: frames of known flows in uniformly random order.
func BenchmarkKnown(b *testing.B) {
	for _, c := range []struct {
		name  string
		flows int
	}{{"1", 1}, {"64k", 65536}, {"1M", 1_000_000}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, Setup{Flows: max(c.flows, 1024)})
			if err := r.Establish(0, c.flows); err != nil {
				b.Fatal(err)
			}
			measure(b, r.LendRandom(0, uint32(c.flows)))
		})
	}
}

// BenchmarkFlood: each frame begins a flow, which takes the place of another in a full table.
func BenchmarkFlood(b *testing.B) {
	measure(b, newRig(b, Setup{Flows: 1_000_000}).LendFlood(0, 1_000_000))
}

// BenchmarkNew: each frame begins a flow, and half a million of them live at any time: they end as
// fast as they begin.
func BenchmarkNew(b *testing.B) {
	l := newRig(b, Setup{Flows: 1_000_000}).LendNew(0, 1_000_000)
	l.Step = forwarder.BatchSize * 60 * time.Second / 500_000
	if _, err := l.Run(2_000_000); err != nil {
		b.Fatal(err)
	}
	measure(b, l)
}

// TestLender: what is lent is what it should be, and goes through.
func TestLender(t *testing.T) {
	r, err := NewRig(Setup{Flows: 4096, Services: 3, Realservers: 2, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for w := range 2 {
		if err := r.Establish(w, 3000); err != nil {
			t.Fatal(err)
		}
	}
	l := r.LendRandom(1, 3000)
	if c, err := l.Run(5000); err != nil || c.Frames < 5000 || c.CPU <= 0 || c.Wall <= 0 {
		t.Fatal(c, err)
	}
	for i := range l.slots {
		b := l.memory[i*slot:]
		if b[14] != 0x45 || b[23] != 6 || b[47] != 0x10 || b[1] != 1 {
			t.Fatalf("slot %d: %x", i, b[:FrameLen])
		}
	}
	if s := r.Stats(); s.Flows != 6000 || s.Verdicts[forwarder.Forwarded] != 2*3*Slots+3*Slots {
		t.Fatalf("%d flows, %d forwarded", s.Flows, s.Verdicts[forwarder.Forwarded])
	}
	if l = r.LendFlood(0, 4096); l == nil || r.Stats().Table.Evicted == 0 {
		t.Fatal("the table did not become full")
	}
	if _, err := NewRig(Setup{Flows: 4096, Services: 10_001}); err == nil {
		t.Fatal("too many services are taken")
	}
}

// TestManyServices: what is read ahead where there are many services changes nothing, and does not
// mind how short a frame is.
func TestManyServices(t *testing.T) {
	r, err := NewRig(Setup{Flows: 4096, Services: 1000, Realservers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Establish(0, 3000); err != nil {
		t.Fatal(err)
	}
	l := r.LendRandom(0, 3000)
	before := r.Stats()
	if _, err := l.Run(5000); err != nil {
		t.Fatal(err)
	}
	s := r.Stats()
	if got := s.Verdicts[forwarder.Forwarded] - before.Verdicts[forwarder.Forwarded]; got != 3*Slots || s.Flows != 3000 {
		t.Fatalf("%d flows, %d forwarded", s.Flows, got)
	}
	l.Fill()
	for n := range FrameLen {
		l.slots[n].Buf = l.slots[n].Buf[:n]
	}
	r.Worker(0).Process(l.slots[:FrameLen], r.now[0].ns)
	if got := r.Stats().Verdicts[forwarder.Forwarded] - s.Verdicts[forwarder.Forwarded]; got != 0 {
		t.Fatalf("%d frames that are cut short were forwarded", got)
	}
}
