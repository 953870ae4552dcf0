package forwarder

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"shunt/forwarder/flow"
)

// Config describes an engine. The zero value of everything but Legs is usable.
type Config struct {
	Legs []Leg
	// Workers is the number of workers, each with its Source and Sink; 0 is 1.
	Workers int
	// Flows is the capacity of each worker's connection table; 0 is 1,000,000.
	Flows int
	// Seed keys the hash of the table; zero takes random numbers. A replay gives a fixed one.
	Seed [2]uint64
	// Epoch is a time in nanoseconds, of the clock of the frames, that none of them precedes.
	Epoch int64
	// Exact makes each batch end all flows that are due by its time, instead of a bounded part: for
	// replays and tests, where the counters of two runs are compared.
	Exact bool
	// Settings; the zero value is not the default: see DefaultSettings.
	Settings Settings
	// Clock is for what is remembered between configurations; nil is time.Now. It is never used on
	// a frame's way.
	Clock func() time.Time
	// State is where connections and counters are kept for the process that comes after this one;
	// what is there is taken over, with its Seed and Epoch. nil is nowhere.
	State *State
}

// An Engine is a director without wires: workers, which carry frames from a Source to a Sink, and a
// Control, which tells them what to do.
type Engine struct {
	*Control
	workers []*Worker
	state   *state // nil if nothing is kept
	taken   Takeover
}

// New makes an engine. Close gives its memory back.
func New(cfg Config) (*Engine, error) {
	if len(cfg.Legs) == 0 || len(cfg.Legs) > 32 {
		return nil, fmt.Errorf("a director has 1 to 32 legs, not %d", len(cfg.Legs))
	}
	if cfg.Workers == 0 {
		cfg.Workers = 1
	}
	if cfg.Workers < 0 || cfg.Workers > 64 {
		return nil, fmt.Errorf("a director has 1 to 64 workers, not %d", cfg.Workers)
	}
	if err := cfg.Settings.Check(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if cfg.Flows == 0 {
		cfg.Flows = 1_000_000
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Seed == [2]uint64{} {
		var b [16]byte
		rand.Read(b[:])
		cfg.Seed = [2]uint64{binary.NativeEndian.Uint64(b[:8]), binary.NativeEndian.Uint64(b[8:])}
	}
	e := &Engine{}
	empty := &snapshot{vips: newVIPTable(nil), timeouts: flow.DefaultTimeouts(), legs: cfg.Legs, settings: cfg.Settings}
	fresh := cfg
	if cfg.State != nil {
		var err error
		if e.state, e.taken.Afresh, err = openState(&cfg); err != nil {
			return nil, err
		}
	}
	err := e.makeWorkers(cfg, empty)
	if errors.Is(err, flow.ErrRefused) {
		e.taken = Takeover{Afresh: err.Error()}
		cfg = fresh
		if err = errors.Join(e.closeWorkers(), e.state.anew(&cfg)); err == nil {
			err = e.makeWorkers(cfg, empty)
		}
	}
	if err != nil {
		return nil, errors.Join(e.unkept(err), e.Close())
	}
	e.Control = newControl(e.workers, cfg.Legs, cfg.Settings, cfg.Clock)
	e.Control.state = e.state
	if e.state.takes() {
		err = e.state.restore(e.Control)
	}
	if err == nil {
		err = e.Control.begin()
	}
	if err != nil {
		return nil, errors.Join(e.unkept(err), e.Close())
	}
	return e, nil
}

// unkept makes the error of a start one about the state, if there is one: without it the start may
// succeed. What is in the directory is given up, as it would be out of date when the next process
// finds it.
func (e *Engine) unkept(err error) error {
	if e.state == nil {
		return err
	}
	e.state.spoil()
	return fmt.Errorf("%w: %w", ErrState, err)
}

// Worker returns worker i, 0 to Workers-1.
func (e *Engine) Worker(i int) *Worker { return e.workers[i] }

// Workers returns the number of workers.
func (e *Engine) Workers() int { return len(e.workers) }

// Close gives the memory of the tables back; with a State, the next process can have it now. No
// worker may be running, and no other method be called afterwards.
func (e *Engine) Close() error {
	err := e.closeWorkers()
	if e.state != nil {
		e.state.close()
	}
	return err
}

func (e *Engine) makeWorkers(cfg Config, empty *snapshot) error {
	for i := range cfg.Workers {
		w, err := newWorker(i, cfg, empty, e.state)
		if w != nil {
			e.workers = append(e.workers, w)
		}
		if err != nil {
			return err
		}
		e.taken.Flows += w.resumed.Flows
		e.taken.Templates += w.resumed.Templates
		e.taken.Dropped += w.resumed.Dropped
		e.taken.Loosened += w.resumed.Loosened
	}
	return nil
}

func (e *Engine) closeWorkers() (err error) {
	for _, w := range e.workers {
		err = errors.Join(err, w.close())
	}
	e.workers = nil
	return err
}

var _ flow.Owner = (*Worker)(nil)
