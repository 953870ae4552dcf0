package forwarder_test

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// BenchmarkObserved measures a worker at a million flows with nobody looking, and with everything
// asked that a scrape, the status page and `shunt top` ask together, twenty times a second, which
// is more than ten times as often. The two must not differ by more than two runs of one do.
func BenchmarkObserved(b *testing.B) {
	for _, looked := range []struct {
		name string
		on   bool
	}{{"off", false}, {"on", true}} {
		b.Run(looked.name, func(b *testing.B) {
			clients := make([]uint32, 1<<20)
			for i := range clients {
				clients[i] = uint32(rand.IntN(benchFlows * 99 / 100))
			}
			r := newBenchRig(b, clients, frame.ACK)
			r.establish(b, benchFlows*99/100)
			src := &feed{rig: r, left: b.N}
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			if looked.on {
				wg.Go(func() { look(ctx, r.Engine) })
			}
			b.ResetTimer()
			if err := r.Worker(0).Run(b.Context(), src, sink{}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			cancel()
			wg.Wait()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/frame")
		})
	}
}

// look asks what everybody asks who looks.
func look(ctx context.Context, e *forwarder.Engine) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.Stats()
			e.Services()
			e.Probes()
		}
	}
}

// feed is a Source of a rig's frames.
type feed struct {
	rig  *benchRig
	left int
}

func (f *feed) Next(batch []frame.Frame) (int, int64, error) {
	if f.left <= 0 {
		return 0, f.rig.now, io.EOF
	}
	n := copy(batch, f.rig.lend())
	f.left -= n
	f.rig.now += int64(n) * 500
	return n, f.rig.now, nil
}

type sink struct{}

func (sink) Send([]frame.Frame) forwarder.Lost { return forwarder.Lost{} }
