package forwarder_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// largePlan has services of ten realservers each: each with a VIP of its own, each realserver with
// a RIP of its own.
func largePlan(services int) forwarder.Plan {
	p := forwarder.Plan{Settings: forwarder.DefaultSettings()}
	for i := range services {
		sp := forwarder.ServicePlan{Service: largeService(i)}
		for j := range 10 {
			sp.Destinations = append(sp.Destinations, largeDest(i, j))
		}
		p.Services = append(p.Services, sp)
	}
	return p
}

func largeService(i int) forwarder.Service {
	a := netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)})
	return forwarder.Service{Scheduler: "wrr", Matches: []forwarder.Match{{Addr: a, Proto: frame.TCP, First: 80, Last: 80}}}
}

func largeDest(i, j int) forwarder.Destination {
	n := 10*i + j + 1
	return forwarder.Destination{Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), Port: 80, Weight: int32(j + 1), Leg: 1}
}

func neighbours(p *forwarder.Plan) []forwarder.Neighbour {
	var out []forwarder.Neighbour
	for i := range p.Services {
		for _, d := range p.Services[i].Destinations {
			a := d.Addr.As4()
			out = append(out, forwarder.Neighbour{Hop: forwarder.Hop{Leg: d.Leg, Addr: d.Addr}, MAC: frame.MAC{2, 0, 1, a[1], a[2], a[3]}})
		}
	}
	return out
}

// startLarge makes an engine of 10,000 services with ten realservers each.
func startLarge(b *testing.B, change ...func(*forwarder.Config)) *rig {
	change = append([]func(*forwarder.Config){func(c *forwarder.Config) { c.Clock, c.Exact = time.Now, false }}, change...)
	r := newRig(b, change...)
	b.Cleanup(func() { r.must(r.Close()) })
	p := largePlan(10000)
	r.update(func(tx *forwarder.Tx) error { return tx.Apply(p) })
	r.must(r.SetNeighbours(neighbours(&p)))
	return r
}

// BenchmarkLoad10000 is the time in which the engine takes over 10,000 services with ten
// realservers each.
func BenchmarkLoad10000(b *testing.B) {
	p := largePlan(10000)
	n := neighbours(&p)
	for b.Loop() {
		r := newRig(b)
		r.update(func(tx *forwarder.Tx) error { return tx.Apply(p) })
		r.must(r.SetNeighbours(n))
		r.must(r.Close())
	}
}

// BenchmarkReload10000 applies the same again.
func BenchmarkReload10000(b *testing.B) {
	r := startLarge(b)
	p := largePlan(10000)
	for b.Loop() {
		r.update(func(tx *forwarder.Tx) error { return tx.Apply(p) })
	}
}

// BenchmarkEdit10000 is the time of one change among 10,000 services with ten realservers each.
func BenchmarkEdit10000(b *testing.B) {
	run := func(name string, change func(r *rig, n int)) {
		b.Run(name, func(b *testing.B) {
			r := startLarge(b)
			n := 0
			for b.Loop() {
				change(r, n)
				n++
			}
		})
	}
	run("weight", func(r *rig, n int) {
		s, d := largeService(5000), largeDest(5000, 5)
		d.Weight = int32(n % 2)
		r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), d) })
	})
	run("realserver", func(r *rig, n int) {
		s, d := largeService(5000), largeDest(10000, 5)
		r.update(func(tx *forwarder.Tx) error {
			if n%2 == 0 {
				return tx.AddDestination(s.Key(), d)
			}
			return tx.DeleteDestination(s.Key(), d)
		})
	})
	run("service", func(r *rig, n int) {
		s := largeService(10000)
		r.update(func(tx *forwarder.Tx) error {
			if n%2 == 0 {
				return tx.AddService(s)
			}
			return tx.DeleteService(s.Key())
		})
	})
	run("neighbour", func(r *rig, n int) {
		r.must(r.SetNeighbour(1, largeDest(5000, 5).Addr, frame.MAC{2, 0, 2, 0, 0, byte(n % 2)}))
	})
}

// BenchmarkProcess10000 is the time of a frame of a known flow, each batch to other services,
// beside the same with one service.
func BenchmarkProcess10000(b *testing.B) {
	for _, services := range []int{1, 10000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			r := startLarge(b, func(c *forwarder.Config) { c.Flows = 100_000 })
			w := r.Worker(0)
			var batches []*reel
			for i := range 256 {
				var frames []frame.Frame
				for j := range forwarder.BatchSize {
					n := i*forwarder.BatchSize + j
					vip := largeService(n * 7 % services).Matches[0].Addr
					client := netip.AddrFrom4([4]byte{100, 1, byte(n >> 8), byte(n)})
					k := talk{netip.AddrPortFrom(client, 40000), netip.AddrPortFrom(vip, 80)}
					w.Process(newReel(k.tcp(frame.SYN)).rewind(), r.now)
					frames = append(frames, k.tcp(frame.ACK))
				}
				batches = append(batches, newReel(frames...))
			}
			out, n := 0, 0
			for b.Loop() {
				out += len(w.Process(batches[n%len(batches)].rewind(), r.now))
				n++
			}
			if out != n*forwarder.BatchSize {
				b.Fatalf("of %d frames %d went out: %v", n*forwarder.BatchSize, out, r.Stats().Verdicts)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(out), "ns/frame")
		})
	}
}
