package replayrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
	"shunt/internal/config"
)

// movedShown is how many moved flows a comparison lists unless it is to list all.
const movedShown = 10

// CompareOptions are the options of Compare. Output is not used: no frames are written.
type CompareOptions struct {
	Options
	// Second is the configuration that Config is compared with.
	Second *config.Config
}

// Compare runs a capture through both configurations side by side and reports the different
// decisions. If the capture can only be read in part, it returns the comparison of that part and a
// *replay.DamageError. With All, every moved flow is kept and listed, not only the first ones.
func Compare(ctx context.Context, opt CompareOptions) (*Comparison, error) {
	c, err := compare(ctx, &opt)
	if err != nil && ctx.Err() != nil {
		return nil, interrupted(&opt.Options)
	}
	return c, err
}

func compare(ctx context.Context, opt *CompareOptions) (*Comparison, error) {
	in, err := openInput(ctx, &opt.Options)
	if err != nil {
		return nil, err
	}
	defer in.close()
	first, err := in.src.First()
	if err != nil && err != io.EOF {
		return nil, err
	}
	p := &pair{limit: movedShown, start: first, cells: map[cell]uint64{}, open: map[frame.Tuple]record{}, room: openRoom}
	if opt.All {
		p.limit = -1
	}
	for i, cfg := range [2]*config.Config{opt.Config, opt.Second} {
		b, err := build(cfg, first)
		if err != nil {
			return nil, err
		}
		defer b.engine.Close() // memory of this process only
		p.sides[i] = newSide(b, cfg.Path)
	}
	p.match()
	start := time.Now()
	stop := showProgress(opt.Progress, in.src, start)
	damage, err := damaged(p.carry(ctx, in.src))
	stop()
	took := time.Since(start)
	if err != nil {
		return nil, err
	}
	c := newComparison(opt, p, in.src.Stats())
	c.Capture.damage(damage)
	if opt.Speed {
		c.Speed = newSpeed(c.Capture.Packets, took)
	}
	return c, asError(damage)
}

// interrupted tells that somebody did not want to wait any longer, whatever has failed because of
// that.
func interrupted(opt *Options) error {
	return fmt.Errorf("%s: the replay was interrupted", nameOf(opt.Input))
}

// carry takes the batches that a worker would, but hands each frame to the engines alone: only then
// is it known what became of it. All frames of a batch get the batch's time, so that both decide as
// in a replay of their own.
func (p *pair) carry(ctx context.Context, src *replay.Source) error {
	batch := make([]frame.Frame, forwarder.BatchSize)
	var copied []byte
	for ctx.Err() == nil {
		n, now, err := src.Next(batch)
		for i := range batch[:n] {
			// The first engine gets a copy, because an engine writes into the frames.
			copied = append(copied[:0], batch[i].Buf...)
			f := batch[i]
			f.Buf = copied
			p.frame(&f, &batch[i], now)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
