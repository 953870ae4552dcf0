// Package probe measures how long a frame takes from a client's wire to a realserver's.
package probe

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A Result is what the probes have shown.
type Result struct {
	Sent, Lost int
	P50, P99   time.Duration
	Max        time.Duration
}

// patience is how long a probe is waited for, beyond its millisecond.
const patience = 20 * time.Millisecond

// Run sends a frame each interval by packet socket tx, n in all, and waits for each on packet
// socket rx before the next is due. mark is where in the frame a number of four bytes is put, by
// which it is known again. The sockets may be of different network namespaces. The caller should be
// locked to its thread, on a processor other than the forwarder's.
func Run(tx, rx int, frame []byte, mark, n int, interval time.Duration) (Result, error) {
	took := make([]time.Duration, 0, n)
	buf := make([]byte, 2048)
	next := time.Now()
	for i := range uint32(n) {
		for now := time.Now(); now.Before(next); now = time.Now() {
			ts := unix.NsecToTimespec(int64(min(next.Sub(now), 50*time.Microsecond)))
			_ = unix.Nanosleep(&ts, nil)
		}
		binary.BigEndian.PutUint32(frame[mark:], i)
		start := time.Now()
		if _, err := unix.Write(tx, frame); err != nil {
			return Result{}, fmt.Errorf("send a probe: %w", err)
		}
		for {
			k, _, err := unix.Recvfrom(rx, buf, unix.MSG_DONTWAIT)
			e := time.Since(start)
			if err == nil && k >= mark+4 && binary.BigEndian.Uint32(buf[mark:]) == i {
				took = append(took, e)
				break
			}
			if err != nil && err != unix.EAGAIN && err != unix.EINTR {
				return Result{}, fmt.Errorf("receive a probe: %w", err)
			}
			if e > patience {
				break
			}
		}
		if next = next.Add(interval); time.Since(next) > 0 {
			next = time.Now().Add(interval)
		}
	}
	return summary(took, n), nil
}

func summary(took []time.Duration, sent int) Result {
	r := Result{Sent: sent, Lost: sent - len(took)}
	if len(took) > 0 {
		slices.Sort(took)
		r.P50, r.P99, r.Max = Percentile(took, 50), Percentile(took, 99), took[len(took)-1]
	}
	return r
}

// Percentile returns the smallest of the sorted values that at least p percent of them do not
// exceed (the nearest rank). p is above 0 and at most 100; there must be a value.
func Percentile[T any](sorted []T, p float64) T {
	rank := int(p/100*float64(len(sorted)) + 0.999999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}
