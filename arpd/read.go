package arpd

import (
	"context"
	"errors"
	"hash/crc32"
	"net"
	"time"

	"shunt/forwarder/frame"
)

// Answers are bounded in rate, so that a flood of requests is not made into one of answers.
const (
	answerRate  = 500 // a second
	answerBurst = 200
)

// What is read is bounded too, lest a flood use up a processor: the rest stays with the kernel,
// which drops it. Of one MAC less is looked at, so that one host does not use up what is for all;
// what is not looked at costs a part only.
const (
	readRate   = 20_000 // a second
	readBurst  = 4000
	senderRate = 2000
	unread     = 0.2 // of a message, for one that is not looked at
)

// allowance is a bucket that fills by rate a second, up to burst.
type allowance struct {
	rate, burst float64
	left        float64
	last        time.Time
}

// take reports whether there may be one more.
func (a *allowance) take(now time.Time) bool {
	a.fill(now)
	return a.spend(1)
}

func (a *allowance) fill(now time.Time) {
	if a.last.IsZero() {
		a.left = a.burst
	} else {
		a.left = min(a.left+now.Sub(a.last).Seconds()*a.rate, a.burst)
	}
	a.last = now
}

// spend takes a cost, if there is as much.
func (a *allowance) spend(cost float64) bool {
	if a.left < cost {
		return false
	}
	a.left -= cost
	return true
}

// A reader reads messages at a bounded rate, in all and of each MAC.
type reader struct {
	all     allowance
	senders [256]allowance // of MACs by a hash, so that no flood of MACs fills the memory
}

func newReader() *reader { return &reader{all: allowance{rate: readRate, burst: readBurst}} }

// may reports whether a frame is to be looked at, and whether to rest before the next.
func (r *reader) may(b []byte, now time.Time) (look, rest bool) {
	cost := unread
	if len(b) >= frame.HeaderLen {
		s := &r.senders[crc32.ChecksumIEEE(b[6:12])%uint32(len(r.senders))]
		s.rate, s.burst = senderRate, senderRate
		if look = s.take(now); look {
			cost = 1
		}
	}
	r.all.fill(now)
	return look, !r.all.spend(cost)
}

// readPause keeps a broken interface from using up a processor.
const readPause = 100 * time.Millisecond

// readNap is how long reading rests in a flood.
const readNap = 10 * time.Millisecond

// read handles what comes. No frame ends it, whatever is in it.
func (l *Link) read(ctx context.Context, next func([]byte) (int, error)) {
	buf := make([]byte, 2048)
	r := newReader()
	for ctx.Err() == nil {
		n, err := next(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.count.errors.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(readPause):
			}
			continue
		}
		l.count.received.Add(1)
		look, rest := r.may(buf[:n], time.Now())
		if look {
			l.handle(buf[:n])
		} else {
			l.count.excess.Add(1)
		}
		for rest && ctx.Err() == nil {
			time.Sleep(readNap)
			r.all.fill(time.Now())
			rest = !r.all.spend(1)
		}
	}
}
