package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// benchFlows is the capacity of the table in all benchmarks: 82 of 100 slots are in use when it is
// full.
const benchFlows = 1_000_000

// A benchRig is an engine with two legs and 16 realservers, and frames that lie one behind the
// other as in a ring. Its table is in the directory SHUNT_BENCH_STATE if that is set.
type benchRig struct {
	*rig
	frames []frame.Frame
	next   int
	cport  uint16 // from which the frames come
	anew   bool   // each time round it is another port, so that each frame is of a new flow
	batch  [forwarder.BatchSize]frame.Frame
}

// newBenchRig prepares the frames of these clients, in this order, each a segment with these flags.
func newBenchRig(b *testing.B, clients []uint32, flags uint8) *benchRig {
	const slot = 64
	r := &benchRig{cport: 40000, rig: newRig(b, func(c *forwarder.Config) {
		c.Flows, c.Exact = benchFlows, false
		c.Clock = time.Now
		if dir := os.Getenv("SHUNT_BENCH_STATE"); dir != "" {
			c.State = &forwarder.State{Dir: openDir(dir)}
			b.Cleanup(func() { os.RemoveAll(dir) })
		}
	})}
	b.Cleanup(func() { r.must(r.Close()) })
	s := service("TCP "+vip4+":80", "wrr")
	r.update(func(tx *forwarder.Tx) error { return tx.AddService(s) })
	for n := 1; n <= 16; n++ {
		d := dest(s, n, func(d *forwarder.Destination) { d.Leg = 1 })
		r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(s.Key(), d) })
		r.must(r.SetNeighbour(1, d.Addr, serverMAC(n)))
	}
	memory := make([]byte, slot*len(clients))
	model := talk4(40000, 80).tcp(flags)
	r.frames = make([]frame.Frame, len(clients))
	for i, client := range clients {
		f := model
		f.Buf = memory[i*slot : i*slot+len(model.Buf)]
		copy(f.Buf, model.Buf)
		h := f.Buf[14:34]
		binary.BigEndian.PutUint32(h[12:], 100<<24|client)
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], checksum(h, 0))
		r.frames[i] = f
	}
	return r
}

// establish makes a flow of each of the first n clients.
func (r *benchRig) establish(b *testing.B, n uint32) {
	syn, ack := newReel(talk4(40000, 80).tcp(frame.SYN)), newReel(talk4(40000, 80).tcp(frame.ACK))
	for client := range n {
		for _, f := range []*reel{syn, ack} {
			h := f.batch[0].Buf[14:34]
			binary.BigEndian.PutUint32(h[12:], 100<<24|client)
			h[10], h[11] = 0, 0
			binary.BigEndian.PutUint16(h[10:], checksum(h, 0))
			r.Worker(0).Process(f.rewind(), r.now)
		}
	}
	if got := r.Stats().Flows; got < int(n)*999/1000 {
		b.Fatalf("the table took %d of %d flows", got, n)
	}
}

// lend returns the next batch as it arrives, to the director's MAC. Otherwise the frames stay as
// they were prepared.
func (r *benchRig) lend() []frame.Frame {
	n := copy(r.batch[:], r.frames[r.next:])
	for i := range r.batch[:n] {
		buf := r.batch[i].Buf
		copy(buf[0:6], legMAC[0][:])
		binary.BigEndian.PutUint16(buf[34:], r.cport)
	}
	if r.next += n; r.next == len(r.frames) {
		r.next = 0
		if r.anew {
			r.cport++
		}
	}
	return r.batch[:n]
}

// run measures Process with the prepared frames; each batch comes step after the one before.
func (r *benchRig) run(b *testing.B, step time.Duration) {
	w, given := r.Worker(0), 0
	before := r.Stats().Verdicts[forwarder.Forwarded]
	b.ReportAllocs()
	for b.Loop() {
		batch := r.lend()
		given += len(batch)
		r.now += int64(step)
		w.Process(batch, r.now)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(given), "ns/frame")
	s := r.Stats()
	if got := s.Verdicts[forwarder.Forwarded] - before; got < uint64(given)*999/1000 {
		b.Fatalf("of %d frames %d were forwarded", given, got)
	}
	if s.Flows >= s.Capacity*999/1000 {
		b.ReportMetric(float64(s.Memory)/float64(s.Flows), "bytes/flow")
	}
}

// runNew measures Process with frames that each begin a flow, once the table has as many flows as
// it will.
func (r *benchRig) runNew(b *testing.B, step time.Duration) {
	r.anew = true
	for range 2 * benchFlows / forwarder.BatchSize {
		r.now += int64(step)
		r.Worker(0).Process(r.lend(), r.now)
	}
	r.run(b, step)
}

// inOrder are the numbers 0 to n-1, repeated to fill a batch.
func inOrder(n int) []uint32 {
	clients := make([]uint32, max(n, forwarder.BatchSize))
	for i := range clients {
		clients[i] = uint32(i % n)
	}
	return clients
}

// BenchmarkProcess measures the whole path of a frame: frames of known flows, in the order in which
// the flows began or any other, and frames that each begin a flow. One operation is a batch;
// ns/frame is what counts.
func BenchmarkProcess(b *testing.B) {
	const pace = 64 * 100 * time.Nanosecond // ten million frames a second
	for _, c := range []struct {
		name  string
		flows int
	}{{"1", 1}, {"64k", 65536}, {"1M", benchFlows}} {
		b.Run("flows="+c.name, func(b *testing.B) {
			r := newBenchRig(b, inOrder(c.flows), frame.ACK)
			r.establish(b, uint32(c.flows))
			r.run(b, pace)
		})
	}
	b.Run("flows=1M-uniform-random", func(b *testing.B) {
		random := rand.New(rand.NewPCG(1, 2))
		clients := make([]uint32, 1<<20)
		for i := range clients {
			clients[i] = random.Uint32N(benchFlows)
		}
		r := newBenchRig(b, clients, frame.ACK)
		r.establish(b, benchFlows)
		r.run(b, pace)
	})
	// Half a million flows at any time, as each lives for its 60 s: they end as fast as they begin.
	b.Run("new-flows", func(b *testing.B) {
		r := newBenchRig(b, inOrder(benchFlows), frame.SYN)
		r.runNew(b, forwarder.BatchSize*60*time.Second/(benchFlows/2))
	})
	// A SYN flood: the table is full, and each flow takes the place of another.
	b.Run("new-flows-flood", func(b *testing.B) {
		r := newBenchRig(b, inOrder(benchFlows), frame.SYN)
		r.runNew(b, pace)
	})
}

// BenchmarkUpdate measures a transaction that changes the weight of one realserver among services
// of ten each, up to its adoption by the worker.
func BenchmarkUpdate(b *testing.B) {
	for _, services := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			r := newRig(b)
			b.Cleanup(func() { r.must(r.Close()) })
			var all []forwarder.ServicePlan
			for n := range services {
				all = append(all, planned(service(fmt.Sprintf("TCP %s:%d", vip4, 1000+n), "wlc"), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
			}
			r.apply(plan(forwarder.DefaultSettings(), all...))
			s := all[0].Service
			n := int32(0)
			for b.Loop() {
				n++
				r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), dest(s, 1, weight(n%100))) })
			}
		})
	}
}
