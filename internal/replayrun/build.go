package replayrun

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// seed is any number, but always the same: where a flow lies in the table must not change from run
// to run.
var seed = [2]uint64{0x7368756e74, 0x7265706c6179}

// built is an engine for a replay, and what was made up for it.
type built struct {
	engine      *forwarder.Engine
	in          frame.Leg
	realservers []Realserver
	names       map[forwarder.ServiceKey]string
}

// build makes the engine that `shunt run` would, with one worker, legs that take frames to any MAC,
// and a clock that begins with the capture.
func build(cfg *config.Config, epoch int64) (*built, error) { return buildFor(cfg, epoch, true) }

// buildFor is build with or without the exact ends of flows that make two replays the same.
func buildFor(cfg *config.Config, epoch int64, exact bool) (*built, error) {
	plan, neighbours, err := cfg.Plan(networks(cfg))
	if err != nil {
		return nil, err
	}
	b := &built{names: map[forwarder.ServiceKey]string{}}
	legs := make([]forwarder.Leg, len(cfg.Legs))
	for i := range legs {
		legs[i] = forwarder.Leg{Name: cfg.Legs[i].Name, MAC: legMAC(i), VLAN: cfg.Legs[i].VLAN, AnyMAC: true}
	}
	for i := range legs {
		if cfg.Legs[i].Public { // here the clients' frames come in
			b.in = frame.Leg(i)
			break
		}
	}
	b.engine, err = forwarder.New(forwarder.Config{
		Legs: legs, Workers: 1, Flows: cfg.Flows, Seed: seed, Epoch: epoch, Exact: exact, Settings: cfg.Settings,
		Clock: func() time.Time { return time.Unix(0, epoch) },
	})
	if err != nil {
		return nil, fmt.Errorf("%w; a smaller value of flows: needs less memory", err)
	}
	for _, n := range neighbours {
		r := Realserver{Address: n.Addr, MAC: n.MAC.String(), Origin: "configured", Leg: legs[n.Leg].Name}
		if n.MAC.IsZero() {
			n.MAC = realserverMAC(n.Addr)
			r.MAC, r.Origin = n.MAC.String(), "derived"
		}
		b.realservers = append(b.realservers, r)
		if err = b.engine.SetNeighbour(n.Leg, n.Addr, n.MAC); err != nil {
			break
		}
	}
	if err == nil {
		err = b.engine.Update(func(tx *forwarder.Tx) error { return tx.Apply(plan) })
	}
	if err != nil {
		b.engine.Close() // the first error is the one to tell
		return nil, err
	}
	for i := range cfg.Services {
		b.names[cfg.Services[i].Key()] = cfg.Services[i].Name
	}
	return b, nil
}

// networks stands in for the interfaces' own networks, which a capture does not tell: a leg for
// which the file names none may have any. If there are several such legs the realservers are taken
// to live behind one that is not public.
func networks(cfg *config.Config) [][]netip.Prefix {
	anywhere := []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	open := func(l *config.Leg) bool { return len(l.Networks) == 0 }
	private := false
	for i := range cfg.Legs {
		private = private || open(&cfg.Legs[i]) && !cfg.Legs[i].Public
	}
	out := make([][]netip.Prefix, len(cfg.Legs))
	for i := range cfg.Legs {
		if l := &cfg.Legs[i]; open(l) && (!private || !l.Public) {
			out[i] = anywhere
		}
	}
	return out
}

// legMAC makes up the MAC of a leg: locally administered (IEEE 802, 8.2), and none that
// realserverMAC makes.
func legMAC(i int) frame.MAC { return frame.MAC{0x02, 0x01, 0, 0, 0, byte(i)} }

// realserverMAC makes up the MAC of a realserver, from which a person can tell whose it is where
// that is possible.
func realserverMAC(a netip.Addr) frame.MAC {
	if a.Is4() {
		b := a.As4()
		return frame.MAC{0x02, 0x00, b[0], b[1], b[2], b[3]}
	}
	h := fnv.New32a()
	b := a.As16()
	h.Write(b[:])
	m := frame.MAC{0x02, 0x06}
	binary.BigEndian.PutUint32(m[2:], h.Sum32())
	return m
}
