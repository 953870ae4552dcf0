package traffic

import (
	"time"

	"golang.org/x/sys/unix"

	"shunt/bench/afpacket"
)

// chunk is how many frames are handed to the kernel at a time.
const chunk = 64

// A Stream writes one frame of Length bytes after the other into memory that has room for it.
type Stream interface {
	Next([]byte)
	Length() int
}

// Send sends frames on an interface for a time, at rate frames a second or, with rate 0, as fast as
// it can. It returns how many the kernel has taken. The caller should be locked to its thread.
func Send(name string, f Stream, rate float64, d time.Duration) (uint64, error) {
	s, err := afpacket.NewSender(name)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return SendBy(s, f, rate, d), nil
}

// SendBy is Send by a ring that is open already, maybe in another network namespace than the
// caller's.
func SendBy(s *afpacket.Sender, f Stream, rate float64, d time.Duration) uint64 {
	start := time.Now()
	sent := uint64(0)
	for {
		for range chunk {
			f.Next(s.Slot())
			s.Commit(f.Length())
		}
		s.Flush()
		sent += chunk
		e := time.Since(start)
		if e > d {
			break
		}
		if rate > 0 {
			// As even as chunks allow.
			for ahead := due(sent, rate) - e; ahead > 0; ahead = due(sent, rate) - time.Since(start) {
				pause(min(ahead, 20*time.Microsecond))
			}
		}
	}
	s.Drain()
	return sent
}

// due is when n frames have been sent at a rate.
func due(n uint64, rate float64) time.Duration { return time.Duration(float64(n) / rate * 1e9) }

// pause sleeps in the kernel: the runtime's own timers are too coarse.
func pause(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}
