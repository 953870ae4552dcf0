package ring

import (
	"errors"
	"fmt"
	"time"

	"shunt/forwarder/frame"
)

// Bounds and defaults of a Config.
const (
	DefaultSlots    = 8192
	DefaultSlotSize = 2048
	MinSlots        = 64
	MaxSlots        = 1 << 20
	MinSlotSize     = 256
	MaxSlotSize     = 1 << 18
	// MaxRing is the maximum size of one ring in bytes. If a ring needs more memory than available,
	// the kernel kills processes instead of returning an error.
	MaxRing = 1 << 30
	// MaxSpin and MaxGather are the maximum times of a Config.
	MaxSpin   = 100 * time.Millisecond
	MaxGather = 10 * time.Millisecond
)

// A Preset selects the balance of latency and CPU time: see the table in pace.go.
type Preset uint8

// The presets. Balanced is the zero value.
const (
	Balanced  Preset = iota // spins under light traffic, gathers under dense traffic, sleeps without traffic
	Latency                 // spins for milliseconds after a frame, never gathers: a core is busy during traffic
	Powersave               // never spins, gathers for longer
)

var presetNames = [...]string{"balanced", "latency", "powersave"}

// String returns the name accepted by ParsePreset.
func (p Preset) String() string {
	if int(p) < len(presetNames) {
		return presetNames[p]
	}
	return "unknown"
}

// ParsePreset parses "balanced", "latency" or "powersave".
func ParsePreset(s string) (Preset, error) {
	for i, n := range presetNames {
		if s == n {
			return Preset(i), nil
		}
	}
	return 0, fmt.Errorf("unknown preset %q: use latency, balanced or powersave", s)
}

// LegConfig identifies an interface of the director. Index is the interface index; if it is 0, Name
// is looked up in the network namespace of the calling thread.
type LegConfig struct {
	Leg   frame.Leg
	Index int
	Name  string

	// Shared means that several legs use this interface. This leg then receives only the frames of
	// its VLAN with tags of type TPID; for VLAN 0, only untagged frames.
	Shared     bool
	VLAN, TPID uint16
}

// Config configures an Engine. Zero fields other than Legs have their defaults.
type Config struct {
	Legs []LegConfig

	// Slots is the number of frames in the ring of each leg (MinSlots to MaxSlots). SlotSize is the
	// size of a slot in bytes (MinSlotSize to MaxSlotSize), including 76 bytes for the kernel. Both
	// may be rounded up. If the kernel has too little memory, Slots is halved until the ring fits;
	// Stats reports the result. A frame larger than its slot is fetched by a separate system call.
	Slots, SlotSize int

	Busy Preset
	// Spin and Gather override the times of the preset (see pace.go). Spin is how long Next polls
	// for a frame after the last one before it sleeps, at most MaxSpin. Gather is how long Next
	// waits for a fuller batch, at most MaxGather. 0 uses the preset; a negative value disables
	// spinning or gathering.
	Spin, Gather time.Duration

	// NoLatency disables the timing of frames: Stats.Latency stays empty.
	NoLatency bool

	// FanoutGroup, if not 0, makes this engine one of FanoutWorkers (2 to 256) that share the legs.
	// The numbers FanoutGroup to FanoutGroup+len(Legs)-1 must be free in the network namespace
	// (packet(7), PACKET_FANOUT); each leg uses one. Engines get their shards in the order of
	// opening. All engines must be open before the first SetVIPs, because until then the kernel
	// divides the frames by the number of open engines.
	FanoutGroup   uint16
	FanoutWorkers int
}

// maxLegs is how many legs the type frame.Leg can name: frame.NoLeg is none.
const maxLegs = int(frame.NoLeg)

// check fills in the defaults and refuses what cannot be.
func (c *Config) check() error {
	if len(c.Legs) == 0 {
		return errors.New("ring: no legs: name at least one interface")
	}
	if c.Slots == 0 {
		c.Slots = DefaultSlots
	}
	if c.SlotSize == 0 {
		c.SlotSize = DefaultSlotSize
	}
	if c.Slots < MinSlots || c.Slots > MaxSlots {
		return fmt.Errorf("ring: %d slots: use %d to %d", c.Slots, MinSlots, MaxSlots)
	}
	if c.SlotSize < MinSlotSize || c.SlotSize > MaxSlotSize {
		return fmt.Errorf("ring: slot size %d: use %d to %d bytes", c.SlotSize, MinSlotSize, MaxSlotSize)
	}
	if c.Slots*c.SlotSize > MaxRing {
		return fmt.Errorf("ring: %d slots of %d bytes are %d MiB: a ring may have %d MiB", c.Slots, c.SlotSize, c.Slots*c.SlotSize>>20, MaxRing>>20)
	}
	if int(c.Busy) >= len(presets) {
		return fmt.Errorf("ring: unknown preset %d", c.Busy)
	}
	if c.Spin > MaxSpin || c.Gather > MaxGather {
		return fmt.Errorf("ring: spinning for %v, gathering for %v: use %v and %v at most", c.Spin, c.Gather, MaxSpin, MaxGather)
	}
	seen := [maxLegs + 1]bool{}
	for _, l := range c.Legs {
		if l.Leg == frame.NoLeg || seen[l.Leg] {
			return fmt.Errorf("ring: interface %s: leg %d is taken or not a leg: number the legs from 0", l.Name, l.Leg)
		}
		seen[l.Leg] = true
	}
	if c.FanoutGroup != 0 {
		if c.FanoutWorkers < 2 || c.FanoutWorkers > 256 {
			return fmt.Errorf("ring: fanout group %d with %d workers: use 2 to 256, or group 0 for one", c.FanoutGroup, c.FanoutWorkers)
		}
		if int(c.FanoutGroup)+len(c.Legs) > 1<<16 {
			return fmt.Errorf("ring: fanout group %d: no room for %d legs below 65536", c.FanoutGroup, len(c.Legs))
		}
	} else if c.FanoutWorkers > 1 {
		return fmt.Errorf("ring: %d workers need a fanout group other than 0", c.FanoutWorkers)
	}
	return nil
}

// pace is the preset with what replaces its times.
func (c *Config) pace() preset {
	p := presets[c.Busy]
	if c.Spin != 0 {
		p.spin = max(int64(c.Spin), 0)
		p.brief = min(p.brief, p.spin)
	}
	if c.Gather != 0 {
		p.gather = max(int64(c.Gather), 0)
		if p.fill == 0 {
			p.fill = presets[Balanced].fill
		}
	}
	return p
}
