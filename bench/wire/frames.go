package wire

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"shunt/bench/afpacket"
	"shunt/bench/probe"
	"shunt/bench/traffic"
)

// Flood is one run of frames through a forwarder.
type Flood struct {
	Offered   float64 // frames a second
	Forwarded float64
	CPU       float64 // ns of user and system time a frame forwarded; 0 where no process forwards
	Sent      uint64  // in the whole run, as the wires tell
	Got       uint64
	Known     uint64 // lost, by the forwarder's own account
}

// Silent is how many frames were lost without anybody's word. Frames that are not the generator's
// may make it negative.
func (f Flood) Silent() int64 { return int64(f.Sent) - int64(f.Got) - int64(f.Known) }

// Lost is how many were lost at all.
func (f Flood) Lost() int64 { return int64(f.Sent) - int64(f.Got) }

const (
	// warm is how long frames come before they are counted: every flow is known by then, and every
	// cache warm.
	warm = 700 * time.Millisecond
	// drainTime is how long frames may be under way after the sender has ended.
	drainTime = 400 * time.Millisecond
)

// errStalled says that a window saw no frames at all, which tells nothing of a forwarder.
var errStalled = errors.New("the machine is too busy")

// flood has the generator send for a window and a little longer, at rate frames a second, 0: at
// full speed. A window in which nothing went or came because the machine had other things to do is
// done again, a few times.
func (l *lab) flood(self string, r *running, rate int, window time.Duration) (f Flood, err error) {
	for range 5 {
		if f, err = l.floodOnce(self, r, rate, window); !errors.Is(err, errStalled) {
			break
		}
	}
	return f, err
}

// floodOnce is one try of flood.
func (l *lab) floodOnce(self string, r *running, rate int, window time.Duration) (f Flood, err error) {
	var before uint64
	if r.lost != nil {
		if before, err = r.lost(); err != nil {
			return f, err
		}
	}
	sent0, got0, err := l.wires()
	if err != nil {
		return f, err
	}
	total := warm + window + 200*time.Millisecond
	gen := exec.Command(self, "gen", "--interface", "c0", "--rate", strconv.Itoa(rate), "--time", total.String())
	out := &tail{}
	gen.Stdout, gen.Stderr = out, out
	if err := start(l.client, senderCPU, gen); err != nil {
		return f, err
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if now, _, err := l.wires(); err != nil || now > sent0+1000 { // it has begun
			break
		}
	}
	time.Sleep(warm)
	cpu1, err := r.used()
	if err != nil {
		return f, err
	}
	sent1, got1, err := l.wires()
	if err != nil {
		return f, err
	}
	at := time.Now()
	time.Sleep(window)
	cpu2, err := r.used()
	if err != nil {
		return f, err
	}
	sent2, got2, err := l.wires()
	if err != nil {
		return f, err
	}
	took := time.Since(at).Seconds()
	if err := gen.Wait(); err != nil {
		return f, fmt.Errorf("generator: %w: %s", err, out.b)
	}
	time.Sleep(drainTime)
	sent3, got3, err := l.wires()
	if err != nil {
		return f, err
	}
	if sent2 == sent1 || got2 == got1 {
		return f, fmt.Errorf("%d frames were sent and %d came while it was measured: %w", sent2-sent1, got2-got1, errStalled)
	}
	f = Flood{Offered: float64(sent2-sent1) / took, Forwarded: float64(got2-got1) / took, Sent: sent3 - sent0, Got: got3 - got0}
	if got2 > got1 {
		f.CPU = (cpu2 - cpu1) * 1e9 / float64(got2-got1)
	}
	if r.lost != nil {
		after, err := r.lost()
		if err != nil {
			return f, err
		}
		f.Known = after - before
	}
	return f, nil
}

// wires reads what the client has sent, and what has come to the realserver.
func (l *lab) wires() (sent, got uint64, err error) {
	if sent, _, err = packets(l.client, "c0"); err == nil {
		_, got, err = packets(l.realHost, "r0")
	}
	return sent, got, err
}

// latency sends one frame each millisecond.
func (l *lab) latency(n int) (res probe.Result, err error) {
	tx, b, err := l.knock()
	if err != nil {
		return res, err
	}
	defer unix.Close(tx)
	var rx int
	if err := l.realHost.Do(func() (err error) { rx, err = afpacket.Open("r0", unix.ETH_P_ALL); return err }); err != nil {
		return res, err
	}
	defer unix.Close(rx)
	// A number in the TCP acknowledgement: no forwarder looks at the checksum of TCP.
	const ackAt = 14 + 20 + 8
	err = onCPU(senderCPU, func() (err error) {
		res, err = probe.Run(tx, rx, b, ackAt, n, time.Millisecond)
		return err
	})
	return res, err
}

// knock opens a socket on the client's wire, and makes a frame for it.
func (l *lab) knock() (fd int, b []byte, err error) {
	spec := traffic.Default()
	spec.Flows = 1
	frames, err := traffic.New(spec)
	if err != nil {
		return 0, nil, err
	}
	b = make([]byte, spec.Length)
	frames.Next(b)
	err = l.client.Do(func() (err error) { fd, err = afpacket.Open("c0", 0); return err })
	return fd, b, err
}

// idle is the share of a processor that the forwarder takes when nothing comes.
func (r *running) idle(d time.Duration) (float64, error) {
	a, err := r.used()
	if err != nil {
		return 0, err
	}
	time.Sleep(d)
	b, err := r.used()
	return (b - a) / d.Seconds(), err
}
