package wire

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"shunt/bench/report"
)

// Options say what is run.
type Options struct {
	Shunt  string        // the program under test
	Self   string        // this program: generator and bare loop
	Rounds int           // of all competitors in turn
	Window time.Duration // of each measurement
	Ring   string        // what shunt's configuration has under ring:, as {busy: latency}; empty: the defaults
	Only   []string      // names of the competitors; empty: all that are installed
	Also   []string      // other shunts to measure beside it, each as name=program or name=program {busy: latency}
	Parts  []string      // of the measurements: see Parts; empty: all
	Log    io.Writer
}

// Parts are the measurements that can be asked for one by one.
var Parts = []string{partIdle, partFull, partSteady, partLossless, partLatency, partUpload, partHTTP}

const (
	partIdle     = "idle"
	partFull     = "full"
	partSteady   = "steady"
	partLossless = "lossless"
	partLatency  = "latency"
	partUpload   = "upload"
	partHTTP     = "http"
)

// wants reports whether any of some parts is to be measured.
func (o *Options) wants(parts ...string) bool {
	return len(o.Parts) == 0 || slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(o.Parts, p) })
}

// check refuses what names no part.
func (o *Options) check() error {
	for _, p := range o.Parts {
		if !slices.Contains(Parts, p) {
			return fmt.Errorf("unknown part %q: use some of %s", p, strings.Join(Parts, ", "))
		}
	}
	return nil
}

// What is measured.
const (
	cpuFull     = "CPU a frame, sender at full speed"
	rateFull    = "frames a second, sender at full speed"
	cpuSteady   = "CPU a frame at 100,000 frames a second"
	p50         = "latency of one frame a millisecond, p50"
	p99         = "latency of one frame a millisecond, p99"
	idleShare   = "CPU when no traffic flows"
	uploadRate  = "bulk TCP upload, default offloads"
	connectRate = "short HTTP connections"
	lostFull    = "frames lost, sender at full speed"
	lossless    = "highest rate without loss"
)

const steady = 100_000

// Run measures, and returns what was found. A run in which frames were lost without being accounted
// for is thrown away and noted.
func Run(ctx context.Context, opt Options) (*report.Report, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "shunt-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	all, err := peers(opt, dir)
	if err != nil {
		return nil, err
	}
	r := &report.Report{Title: "On the wire", Time: time.Now(), Rounds: opt.Rounds}
	var here []peer
	for _, p := range all {
		if len(opt.Only) > 0 && !slices.Contains(opt.Only, p.name) {
			continue
		}
		path, err := exec.LookPath(p.program)
		if err != nil {
			if p.install == "" {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			fmt.Fprintf(opt.Log, "%s is not installed: %s\n", p.name, p.install)
			r.Missing = append(r.Missing, report.NamedString{Name: p.name, Text: p.install})
			continue
		}
		p.program = path
		if v := versionOf(p); v != "" {
			r.Versions = append(r.Versions, report.NamedString{Name: p.name, Text: v})
		}
		here = append(here, p)
	}
	for round := range opt.Rounds {
		// Who comes first changes from round to round.
		for i := range here {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			p := here[(i+round)%len(here)]
			fmt.Fprintf(opt.Log, "round %d of %d: %s\n", round+1, opt.Rounds, p.name)
			if err := measure(opt, p, round, r); err != nil {
				return nil, fmt.Errorf("round %d: %s: %w", round+1, p.name, err)
			}
		}
	}
	r.Machine = report.ThisMachine()
	goals(r)
	return r, nil
}

// measure is one competitor's part of a round, in a laboratory of its own.
func measure(opt Options, p peer, round int, r *report.Report) error {
	l, err := newLab()
	if err != nil {
		return err
	}
	defer l.net.Close()
	if !p.onlyTCP && opt.wants(partIdle, partFull, partSteady, partLossless, partLatency) {
		if err := frames(opt, l, p, round, r); err != nil {
			return err
		}
	}
	if p.tcp && opt.wants(partUpload, partHTTP) {
		return tcp(opt, l, p, r)
	}
	return nil
}

// frames is the part with a generator's frames, which the realserver drops.
func frames(opt Options, l *lab, p peer, round int, r *report.Report) error {
	if err := l.sink(true); err != nil {
		return err
	}
	run, err := l.launch(p, p.cpu)
	if err != nil {
		return err
	}
	stopped := false
	defer func() {
		if !stopped {
			_ = run.stop()
		}
	}()
	note := func(format string, args ...any) {
		text := fmt.Sprintf("round %d, %s: ", round+1, p.name) + fmt.Sprintf(format, args...)
		r.Notes = append(r.Notes, text)
		fmt.Fprintln(opt.Log, text)
	}
	// Before any frame, and when it has settled.
	if p.shunt && opt.wants(partIdle) {
		share, err := run.idle(2 * time.Second)
		if err != nil {
			return err
		}
		r.Add(idleShare, "% of a processor", p.name, 100*share)
	}
	if err := floods(opt, l, run, r, note); err != nil {
		return err
	}
	if opt.wants(partLossless) {
		rate, err := highest(func(rate int) (Flood, error) {
			return l.flood(opt.Self, run, rate, max(opt.Window/2, 500*time.Millisecond))
		})
		if err != nil {
			return err
		}
		r.Add(lossless, "frames a second", p.name, rate)
	}
	if p.name != netsniff && opt.wants(partLatency) { // it holds a frame for milliseconds: see the reference in docs/performance.md
		res, err := l.latency(int(opt.Window / time.Millisecond))
		if err != nil {
			return err
		}
		if res.Lost*100 > res.Sent {
			note("%d of %d probes were lost: their latency does not count", res.Lost, res.Sent)
		} else {
			r.Add(p50, "us", p.name, float64(res.P50)/1e3)
			r.Add(p99, "us", p.name, float64(res.P99)/1e3)
		}
	}
	stopped = true
	if err := run.stop(); err != nil {
		note("%v", err)
	}
	return l.sink(false)
}

// floods measures the two rates.
func floods(opt Options, l *lab, run *running, r *report.Report, note func(string, ...any)) error {
	for _, rate := range []int{0, steady} {
		if part := map[int]string{0: partFull, steady: partSteady}[rate]; !opt.wants(part) {
			continue
		}
		f, err := l.flood(opt.Self, run, rate, opt.Window)
		if err != nil {
			return err
		}
		if f.Got == 0 {
			return fmt.Errorf("nothing came through; it says: %s", run.out.b)
		}
		name := "at full speed"
		if rate > 0 {
			name = fmt.Sprintf("at %d a second", rate)
		}
		if rate == 0 {
			r.Add(lostFull, "% of the frames", run.name, 100*float64(max(f.Lost(), 0))/float64(f.Sent))
		}
		// Who keeps no account loses silently, and its frames are counted as they came; but what it
		// spent on a frame that came is too much by what it spent on those that did not. So those
		// runs do not count either.
		if s := f.Silent(); s > int64(f.Sent/1000) {
			note("%s: %d of %d frames were lost silently: the run does not count (%.0f a second came through, at %.0f ns of CPU each)",
				name, s, f.Sent, f.Forwarded, f.CPU)
			if rate == 0 && !run.shunt {
				r.Add(rateFull, "frames a second", run.name, f.Forwarded) // of a rate it is no flattery
			}
			continue
		}
		if rate == 0 {
			r.Add(rateFull, "frames a second", run.name, f.Forwarded)
			if run.cmd != nil {
				r.Add(cpuFull, "ns", run.name, f.CPU)
			}
		} else if run.cmd != nil {
			if f.Offered < 0.9*float64(rate) {
				note("%s: the sender reached only %.0f a second: the run does not count", name, f.Offered)
				continue
			}
			r.Add(cpuSteady, "ns", run.name, f.CPU)
		}
	}
	return nil
}

// tcp measures real connections, with the forwarder free to run where it likes.
func tcp(opt Options, l *lab, p peer, r *report.Report) error {
	run, err := l.launch(p, -1)
	if err != nil {
		return err
	}
	defer func() { _ = run.stop() }()
	if opt.wants(partUpload) {
		gbits, err := l.upload(opt.Window)
		if err != nil {
			return err
		}
		r.Add(uploadRate, "Gbit/s", p.name, gbits)
	}
	if !opt.wants(partHTTP) {
		return nil
	}
	n, err := l.connections(opt.Window)
	if err != nil {
		return err
	}
	r.Add(connectRate, "connections a second", p.name, n)
	return nil
}

// goals compares, as the project's goals say.
func goals(r *report.Report) {
	r.Ratio(cpuFull, shuntName, bareName, 1.15, false)
	r.Ratio(cpuFull, shuntName, testpmd, 0.75, false)
	r.Ratio(rateFull, shuntName, testpmd, 1.1, true)
	r.Ratio(rateFull, shuntName, netsniff, 2, true)
	r.Absolute(lostFull, shuntName, 0, false)
	r.Ratio(lossless, shuntName, netsniff, 2, true)
	r.Ratio(cpuSteady, shuntName, bareName, 1.35, false)
	r.Ratio(p50, shuntName, testpmd, 1.25, false)
	r.Ratio(p99, shuntName, testpmd, 1.5, false)
	r.Absolute(idleShare, shuntName, 1, false)
	r.Ratio(uploadRate, shuntName, nftName, 0.85, true)
	r.Ratio(connectRate, shuntName, nftName, 0.9, true)
}
