package ring

import (
	"sync/atomic"
	"time"
)

// sampleEvery is how often the way of a frame is timed, in nanoseconds: at most a hundred times a
// second, however many frames there are. Only a sampled batch has its clock read a second time.
const sampleEvery = 10_000_000

// latencyBounds are the upper bounds of the buckets of a Histogram, in nanoseconds.
var latencyBounds = [...]int64{
	5e3, 10e3, 25e3, 50e3, 100e3, 250e3, 500e3, 1e6, 2.5e6, 5e6, 10e6, 25e6, 50e6, 100e6, 1e9,
}

// implausible bounds the age of a frame that is believed: a slot may carry the time stamp of
// another clock, or the host's clock may have been set meanwhile.
const implausible = 10e9

// A Histogram is the distribution of the time that frames spend in the director: from the kernel's
// timestamp of the frame in the ring (tp_sec and tp_nsec, packet(7)) until Send returns. The oldest
// frame of a batch is timed, at most a hundred times a second. Batches of which nothing was sent
// are not timed.
type Histogram struct {
	Bounds []time.Duration // upper bounds of the buckets, growing
	Counts []uint64        // one for each bound, and one for what is above all
	Sum    time.Duration
}

// Count returns the number of timed frames.
func (l *Histogram) Count() (n uint64) {
	for _, c := range l.Counts {
		n += c
	}
	return n
}

// sampler times frames for one engine. Its counts may be read by any goroutine, the rest is the
// owner's.
type sampler struct {
	off    bool
	due    int64 // of CLOCK_MONOTONIC: when the next frame is timed
	stamp  int64 // of CLOCK_REALTIME: when the frame came that is being timed; 0 if there is none
	counts [len(latencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

// begin notes when the oldest frame of the batch came, if it is time for a sample. stamp is where
// the walker of the first frame's leg stands.
func (s *sampler) begin(now int64, w *walker) {
	s.stamp = 0
	if now < s.due || s.off || w.held == 0 {
		return
	}
	s.due = now + sampleEvery
	s.stamp = w.oldest()
}

// end takes the time of the frame that begin chose; Send has returned it. now is CLOCK_REALTIME.
func (s *sampler) end(now int64) {
	age := now - s.stamp
	s.stamp = 0
	if age < 0 || age > implausible {
		return
	}
	i := 0
	for i < len(latencyBounds) && age > latencyBounds[i] {
		i++
	}
	s.counts[i].Add(1)
	s.sum.Add(age)
}

func (s *sampler) read() Histogram {
	l := Histogram{Sum: time.Duration(s.sum.Load())}
	for _, b := range latencyBounds {
		l.Bounds = append(l.Bounds, time.Duration(b))
	}
	for i := range s.counts {
		l.Counts = append(l.Counts, s.counts[i].Load())
	}
	return l
}
