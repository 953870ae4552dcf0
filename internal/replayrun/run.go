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

// Options say what to replay.
type Options struct {
	Config *config.Config
	Input  string // path of a capture; "-" is Stdin
	Output string // path of the capture to write; "" is none
	Stdin  *os.File
	// Progress is where to tell how far a long replay is; nil is nowhere.
	Progress io.Writer
	// Speed adds to the report how long it took, which is another time at every run.
	Speed bool
}

// Run replays a capture and reports. If it fails, it leaves no output file behind.
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
		return nil, err
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
	err = carry(ctx, b.engine, in.src, out)
	stop()
	took := time.Since(start)
	if err = out.finish(err); err != nil {
		return nil, err
	}
	r := newReport(opt, b, in.src.Stats(), out)
	if opt.Speed {
		r.Speed = newSpeed(r.Capture.Packets, took)
	}
	return r, nil
}

// carry runs the worker until the capture has ended, the output has failed or ctx is done.
func carry(ctx context.Context, e *forwarder.Engine, src *replay.Source, out *output) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	err := e.Worker(0).Run(inner, src, stopping{out, cancel})
	var damage *replay.DamageError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case out.err() != nil:
		return nil // finish tells it
	case errors.As(err, &damage):
		return damage // that it was worker 0 helps nobody here
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
