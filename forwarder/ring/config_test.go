package ring

import (
	"strings"
	"testing"

	"shunt/forwarder/frame"
)

func TestConfigCheck(t *testing.T) {
	one := []LegConfig{{Leg: 0, Name: "a"}}
	two := []LegConfig{{Leg: 0, Name: "a"}, {Leg: 1, Name: "b"}}
	for _, c := range []struct {
		name string
		cfg  Config
		err  string // part of it
	}{
		{"defaults", Config{Legs: one}, ""},
		{"all set", Config{Legs: two, Slots: MinSlots, SlotSize: MaxSlotSize, Busy: Powersave, FanoutGroup: 1, FanoutWorkers: 256}, ""},
		{"the last groups", Config{Legs: two, FanoutGroup: 65534, FanoutWorkers: 2}, ""},
		{"one worker without a group", Config{Legs: one, FanoutWorkers: 1}, ""},
		{"the highest leg", Config{Legs: []LegConfig{{Leg: frame.NoLeg - 1}}}, ""},
		{"no legs", Config{}, "no legs"},
		{"the same leg twice", Config{Legs: []LegConfig{{Leg: 1, Name: "a"}, {Leg: 1, Name: "b"}}}, "leg 1 is taken"},
		{"not a leg", Config{Legs: []LegConfig{{Leg: frame.NoLeg}}}, "not a leg"},
		{"few slots", Config{Legs: one, Slots: MinSlots - 1}, "slots"},
		{"negative slots", Config{Legs: one, Slots: -1}, "slots"},
		{"many slots", Config{Legs: one, Slots: MaxSlots + 1}, "slots"},
		{"small slots", Config{Legs: one, SlotSize: MinSlotSize - 1}, "slot size"},
		{"large slots", Config{Legs: one, SlotSize: MaxSlotSize + 1}, "slot size"},
		{"preset", Config{Legs: one, Busy: 3}, "preset"},
		{"a group without workers", Config{Legs: one, FanoutGroup: 1}, "workers"},
		{"a group of one", Config{Legs: one, FanoutGroup: 1, FanoutWorkers: 1}, "workers"},
		{"too many workers", Config{Legs: one, FanoutGroup: 1, FanoutWorkers: 257}, "workers"},
		{"workers without a group", Config{Legs: one, FanoutWorkers: 2}, "fanout group"},
		{"no room for the groups", Config{Legs: two, FanoutGroup: 65535, FanoutWorkers: 2}, "no room"},
	} {
		err := c.cfg.check()
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.err == "" && (c.cfg.Slots == 0 || c.cfg.SlotSize == 0):
			t.Errorf("%s: defaults are missing: %+v", c.name, c.cfg)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		if c.err != "" { // Open says the same, and opens nothing before
			if e, err := Open(c.cfg); e != nil || err == nil {
				t.Errorf("%s: Open gave %v, %v", c.name, e, err)
			}
		}
	}
}

func TestPreset(t *testing.T) {
	for _, p := range []Preset{Balanced, Latency, Powersave} {
		if got, err := ParsePreset(p.String()); err != nil || got != p {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	if _, err := ParsePreset("fast"); err == nil {
		t.Error("a preset that is none was read")
	}
	if s := Preset(9).String(); s != "unknown" {
		t.Errorf("String: %q", s)
	}
}
