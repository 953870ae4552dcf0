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
	// MaxRing bounds the bytes of one ring: asked for more than it has, the kernel ends processes rather than say no.
	MaxRing = 1 << 30
	// MaxSpin and MaxGather bound the times of a Config.
	MaxSpin   = 100 * time.Millisecond
	MaxGather = 10 * time.Millisecond
)

// A Preset chooses between latency and CPU time: see the table in pace.go.
type Preset uint8

// The presets. Balanced is the zero value.
const (
	Balanced  Preset = iota // spins while frames come singly, gathers when they come densely, sleeps when there are none
	Latency                 // spins for milliseconds after a frame, never gathers: a core is busy while there is traffic
	Powersave               // never spins, gathers for longer
)

var presetNames = [...]string{"balanced", "latency", "powersave"}

// String is the name that ParsePreset reads.
func (p Preset) String() string {
	if int(p) < len(presetNames) {
		return presetNames[p]
	}
	return "unknown"
}

// ParsePreset reads "balanced", "latency" or "powersave".
func ParsePreset(s string) (Preset, error) {
	for i, n := range presetNames {
		if s == n {
			return Preset(i), nil
		}
	}
	return 0, fmt.Errorf("unknown preset %q: use latency, balanced or powersave", s)
}

// LegConfig names an interface of the director. Index is its interface index; if 0, Name is looked up in the network
// namespace of the calling thread.
type LegConfig struct {
	Leg   frame.Leg
	Index int
	Name  string

	// Shared says that other legs have this interface too. Then the frames that come in by this one are those of its VLAN
	// alone, with tags of type TPID; of VLAN 0, those of none.
	Shared     bool
	VLAN, TPID uint16
}

// Config describes an Engine. Zero fields other than Legs take their defaults.
type Config struct {
	Legs []LegConfig

	// Slots is the number of frames that the ring of each leg holds (MinSlots to MaxSlots); SlotSize is the size of
	// one in bytes (MinSlotSize to MaxSlotSize), of which 76 are for the kernel. Both may be rounded up, and Slots is
	// halved as often as the kernel says that it has no memory: Stats tells what became of it. A frame that is larger
	// than its slot is fetched whole by a system call of its own.
	Slots, SlotSize int

	Busy Preset
	// Spin and Gather replace times of the preset (see pace.go): how long Next looks for a frame after the last one before it
	// sleeps, up to MaxSpin, and how long it waits for a fuller batch, up to MaxGather. 0 is the preset's; negative is not at all.
	Spin, Gather time.Duration

	// NoLatency leaves Stats.Latency empty: no frame is timed.
	NoLatency bool

	// FanoutGroup, if not 0, makes this engine one of FanoutWorkers (2 to 256) that share the legs. The numbers
	// FanoutGroup to FanoutGroup+len(Legs)-1 must be free in the network namespace (packet(7), PACKET_FANOUT): one
	// is used for each leg. Engines take their shards in the order in which they are opened. All of them must be
	// opened before the first SetVIPs, since until then the kernel divides the frames by the number opened so far.
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
