package replayrun

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
	"shunt/internal/config"
)

// Options are the options of a replay.
type Options struct {
	Config *config.Config
	Input  string // path of a capture; "-" is Stdin
	Output string // path of the capture to write; "" is none
	Stdin  *os.File
	// Progress is where to tell how far a long replay is; nil is nowhere.
	Progress io.Writer
	// Strict takes each frame as it was captured, instead of as a network card would have sent it:
	// see replay.Source.
	Strict bool
	// All has the text of the report list everything, instead of what fits a screen.
	All bool
	// Speed adds to the report how long it took, which is another time at every run.
	Speed bool
}

// Run replays a capture and reports. If it fails, it leaves no output file behind. If the capture
// can only be read in part, there is a report on that part, and the output file has it, and the
// error is a *replay.DamageError.
func Run(ctx context.Context, opt Options) (*Report, error) {
	r, err := run(ctx, &opt)
	if err != nil && ctx.Err() != nil {
		return nil, interrupted(&opt)
	}
	return r, err
}

func run(ctx context.Context, opt *Options) (*Report, error) {
	in, err := openInput(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer in.close()
	first, err := in.src.First()
	if err != nil && err != io.EOF {
		return nil, err // there is nothing to report on
	}
	b, err := build(opt.Config, first)
	if err != nil {
		return nil, err
	}
	defer b.engine.Close() // memory of this process only
	in.src.In = b.in

	out, err := create(opt.Output, in.file)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	stop := showProgress(opt.Progress, in.src, start)
	crowd := newCrowd(in.src)
	damage, err := damaged(carry(ctx, b.engine, crowd, out))
	stop()
	took := time.Since(start)
	if err = out.finish(err); err != nil {
		return nil, err
	}
	r := newReport(opt, b, in.src.Stats(), out)
	r.Capture.damage(damage)
	if !r.matched() {
		r.Busiest = crowd.busiest()
	}
	if opt.Speed {
		r.Speed = newSpeed(r.Capture.Packets, took)
	}
	return r, asError(damage)
}

// damaged parts damage of the capture, before which everything was read, from other errors.
func damaged(err error) (*replay.DamageError, error) {
	var damage *replay.DamageError
	if errors.As(err, &damage) {
		return damage, nil // that it was worker 0 helps nobody here
	}
	return nil, err
}

// asError is damage as an error, or nil.
func asError(damage *replay.DamageError) error {
	if damage == nil {
		return nil
	}
	return damage
}

// carry runs the worker until the capture has ended, the output has failed or ctx is done.
func carry(ctx context.Context, e *forwarder.Engine, src forwarder.Source, out *output) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	err := e.Worker(0).Run(inner, src, stopping{out, cancel})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case out.err() != nil:
		return nil // finish tells it
	}
	return err
}

// stopping ends the replay when the output takes no more.
type stopping struct {
	out    *output
	cancel context.CancelFunc
}

// Send implements forwarder.Sink.
func (s stopping) Send(batch []frame.Frame) forwarder.Lost {
	lost := s.out.sink.Send(batch)
	if s.out.err() != nil {
		s.cancel()
	}
	return lost
}
