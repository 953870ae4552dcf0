package delta_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/delta"
)

// engine is what is served.
type engine struct {
	vips map[netip.Addr]bool
	hops map[forwarder.Hop]bool
}

func newEngine() *engine {
	return &engine{vips: map[netip.Addr]bool{}, hops: map[forwarder.Hop]bool{}}
}

func (e *engine) Serves(v netip.Addr) bool   { return e.vips[v] }
func (e *engine) InUse(h forwarder.Hop) bool { return e.hops[h] }

func vip(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }

func hop(i int) forwarder.Hop {
	return forwarder.Hop{Leg: frame.Leg(i % 2), Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}
}

func server(i, mac int) forwarder.Neighbour {
	n := forwarder.Neighbour{Hop: hop(i)}
	if mac > 0 {
		n.MAC = frame.MAC{2, 0, 0, 0, 0, byte(mac)}
	}
	return n
}

// journal is a subscriber that writes down its calls.
type journal struct {
	name  string
	lines *[]string
}

func (j *journal) Prepare(d *delta.Delta) error {
	*j.lines = append(*j.lines, fmt.Sprint(j.name, " prepare ", d.Come, d.Gone, d.Resolve, d.Forget, " of ", d.VIPs))
	return nil
}

func (j *journal) Settle(d *delta.Delta) error {
	*j.lines = append(*j.lines, fmt.Sprint(j.name, " settle ", d.Come, d.Gone, d.Resolve, d.Forget, " of ", d.VIPs))
	return nil
}

func wants(t *testing.T, got *[]string, want ...string) {
	t.Helper()
	if !slices.Equal(*got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(*got, "\n  "), strings.Join(want, "\n  "))
	}
	*got = nil
}

// All prepare before the engine changes, in order, and settle afterwards, in the reverse order.
func TestOrder(t *testing.T) {
	var lines []string
	e := newEngine()
	tell := delta.NewTeller(e, slog.New(slog.DiscardHandler), &journal{name: "a", lines: &lines}, &journal{name: "b", lines: &lines})
	commit := func(serves, not int, in, out forwarder.Hop) func() error {
		return func() error {
			lines = append(lines, "engine")
			e.vips[vip(serves)], e.vips[vip(not)], e.hops[in], e.hops[out] = true, false, true, false
			return nil
		}
	}
	change := delta.Change{VIPs: []netip.Addr{vip(1), vip(1)}, Realservers: []forwarder.Neighbour{server(1, 0), server(1, 0)}}
	if err := tell.Change(change, commit(1, 2, hop(1), hop(2))); err != nil {
		t.Fatal(err)
	}
	wants(t, &lines,
		"a prepare [192.0.2.1] [] [{{1 10.0.0.1} 00:00:00:00:00:00 false}] [] of [192.0.2.1]",
		"b prepare [192.0.2.1] [] [{{1 10.0.0.1} 00:00:00:00:00:00 false}] [] of [192.0.2.1]",
		"engine",
		"b settle [192.0.2.1] [] [] [] of [192.0.2.1]",
		"a settle [192.0.2.1] [] [] [] of [192.0.2.1]")
	change = delta.Change{VIPs: []netip.Addr{vip(2), vip(1)}, Realservers: []forwarder.Neighbour{server(2, 0), server(1, 0)}}
	if err := tell.Change(change, commit(2, 1, hop(2), hop(1))); err != nil {
		t.Fatal(err)
	}
	wants(t, &lines,
		"a prepare [192.0.2.2] [] [{{0 10.0.0.2} 00:00:00:00:00:00 false}] [] of [192.0.2.1 192.0.2.2]",
		"b prepare [192.0.2.2] [] [{{0 10.0.0.2} 00:00:00:00:00:00 false}] [] of [192.0.2.1 192.0.2.2]",
		"engine",
		"b settle [192.0.2.2] [192.0.2.1] [] [{1 10.0.0.1}] of [192.0.2.2]",
		"a settle [192.0.2.2] [192.0.2.1] [] [{1 10.0.0.1}] of [192.0.2.2]")
	// What does not change is told to nobody.
	change = delta.Change{VIPs: []netip.Addr{vip(2)}, Realservers: []forwarder.Neighbour{server(2, 0)}, All: true}
	if err := tell.Change(change, nil); err != nil {
		t.Fatal(err)
	}
	wants(t, &lines, "a prepare [] [] [] [] of []", "b prepare [] [] [] [] of []", "b settle [] [] [] [] of []", "a settle [] [] [] [] of []")
}

// settles refuses to settle.
type settles struct{ error }

func (s settles) Prepare(*delta.Delta) error { return nil }
func (s settles) Settle(*delta.Delta) error  { return s.error }

// What did not settle is logged, and the change stays.
func TestSettleFails(t *testing.T) {
	var log bytes.Buffer
	tell := delta.NewTeller(newEngine(), slog.New(slog.NewTextHandler(&log, nil)), settles{errors.New("a full disk")})
	if err := tell.Change(delta.Change{}, nil); err != nil || !strings.Contains(log.String(), "a full disk") {
		t.Errorf("the change: %v, the log: %s", err, &log)
	}
}

// Interfaces, own addresses and the patience are passed on.
func TestPassedOn(t *testing.T) {
	e := newEngine()
	m := newMirror()
	tell := delta.NewTeller(e, slog.New(slog.DiscardHandler), m)
	e.vips[vip(1)] = true
	if err := tell.Change(delta.Change{VIPs: []netip.Addr{vip(1)}, Interfaces: []string{"eth0"}, Own: []netip.Addr{vip(9)}, Wait: 7}, nil); err != nil {
		t.Fatal(err)
	}
	if err := tell.Change(delta.Change{Own: []netip.Addr{}}, nil); err != nil {
		t.Fatal(err)
	}
	first, second := m.deltas[0], m.deltas[2]
	if !slices.Equal(first.Interfaces, []string{"eth0"}) || !slices.Equal(first.Own, []netip.Addr{vip(9)}) || first.Wait != 7 ||
		second.Own == nil || !slices.Equal(second.VIPs, []netip.Addr{vip(1)}) {
		t.Errorf("told were %+v and %+v", first, second)
	}
}

// mirror is a subscriber that does what it is told, and notices what makes no sense.
type mirror struct {
	vips    map[netip.Addr]bool
	hops    map[forwarder.Hop]frame.MAC
	deltas  []delta.Delta
	refuses bool
	wrong   []string
}

func newMirror() *mirror {
	return &mirror{vips: map[netip.Addr]bool{}, hops: map[forwarder.Hop]frame.MAC{}}
}

func (m *mirror) Prepare(d *delta.Delta) error {
	m.deltas = append(m.deltas, *d)
	if len(d.Gone)+len(d.Forget) > 0 {
		m.wrong = append(m.wrong, "something goes before the engine has changed")
	}
	for _, v := range d.Come {
		if m.vips[v] {
			m.wrong = append(m.wrong, fmt.Sprint(v, " comes twice"))
		}
		m.vips[v] = true
	}
	m.resolve(d)
	if m.refuses {
		return errors.New("refused by a subscriber")
	}
	return nil
}

func (m *mirror) Settle(d *delta.Delta) error {
	m.deltas = append(m.deltas, *d)
	for _, v := range d.Gone {
		if !m.vips[v] {
			m.wrong = append(m.wrong, fmt.Sprint(v, " goes, and was not there"))
		}
		delete(m.vips, v)
	}
	for _, h := range d.Forget {
		if _, ok := m.hops[h]; !ok {
			m.wrong = append(m.wrong, fmt.Sprint(h, " goes, and was not there"))
		}
		delete(m.hops, h)
	}
	m.resolve(d)
	if d.VIPs != nil && !slices.Equal(d.VIPs, slices.SortedFunc(maps.Keys(m.vips), netip.Addr.Compare)) {
		m.wrong = append(m.wrong, fmt.Sprint("all VIPs are said to be ", d.VIPs))
	}
	return nil
}

func (m *mirror) resolve(d *delta.Delta) {
	for _, n := range d.Resolve {
		m.hops[n.Hop] = n.MAC
	}
}

// Whatever comes, goes, and is refused by whomever: a subscriber that only follows the deltas has
// what the engine serves.
func TestMirrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, first, last := newEngine(), newMirror(), newMirror()
		tell := delta.NewTeller(e, slog.New(slog.DiscardHandler), first, last)
		macs := map[forwarder.Hop]frame.MAC{}
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			step(t, e, macs, tell, first, last)
			for _, m := range []*mirror{first, last} {
				if len(m.wrong) > 0 {
					t.Fatal(strings.Join(m.wrong, "\n"))
				}
				if !maps.Equal(m.vips, e.vips) || !maps.Equal(m.hops, macs) {
					t.Fatalf("a subscriber has %v and %v, served are %v and %v", m.vips, m.hops, e.vips, macs)
				}
			}
		}
	})
}

// step makes one change; macs are the static MACs of all realservers in use.
func step(t *rapid.T, e *engine, macs map[forwarder.Hop]frame.MAC, tell *delta.Teller, first, last *mirror) {
	vips, hops := maps.Clone(e.vips), maps.Clone(e.hops)
	var c delta.Change
	c.All = rapid.Bool().Draw(t, "all")
	for _, i := range rapid.SliceOfN(rapid.IntRange(1, 6), 0, 6).Draw(t, "vips") {
		c.VIPs = append(c.VIPs, vip(i))
		if delete(vips, vip(i)); rapid.Bool().Draw(t, "comes") {
			vips[vip(i)] = true
		}
	}
	given := map[int]int{}
	for _, i := range rapid.SliceOfN(rapid.IntRange(1, 6), 0, 6).Draw(t, "realservers") {
		if _, ok := given[i]; !ok {
			given[i] = rapid.IntRange(0, 2).Draw(t, "mac")
		}
		c.Realservers = append(c.Realservers, server(i, given[i]))
		if delete(hops, hop(i)); rapid.Bool().Draw(t, "comes") {
			hops[hop(i)] = true
		}
	}
	if c.All { // as a reload, which names all that is to be
		vips, hops = map[netip.Addr]bool{}, map[forwarder.Hop]bool{}
		for _, v := range c.VIPs {
			vips[v] = true
		}
		for i := range given {
			hops[hop(i)] = true
		}
	}
	refused := rapid.SampledFrom([]string{"", "", "first", "last", "engine"}).Draw(t, "refused")
	first.refuses, last.refuses = refused == "first", refused == "last"
	err := tell.Change(c, func() error {
		if refused == "engine" {
			return errors.New("refused by the engine")
		}
		e.vips, e.hops = vips, hops
		return nil
	})
	if (err != nil) != (refused != "") {
		t.Fatalf("%q refuses, and the error is %v", refused, err)
	}
	if err != nil {
		return
	}
	maps.DeleteFunc(macs, func(h forwarder.Hop, _ frame.MAC) bool { return !hops[h] })
	for i, mac := range given {
		if hops[hop(i)] {
			macs[hop(i)] = server(i, mac).MAC
		}
	}
}

// quiet is a subscriber that does nothing.
type quiet struct{}

func (quiet) Prepare(*delta.Delta) error { return nil }
func (quiet) Settle(*delta.Delta) error  { return nil }

// What a change costs beside 10,000 VIPs with ten realservers each, without what the subscribers
// do: of one VIP that comes and goes, and of a reload that changes nothing.
func BenchmarkChange10000(b *testing.B) {
	e := newEngine()
	tell := delta.NewTeller(e, slog.New(slog.DiscardHandler), quiet{})
	all := delta.Change{All: true}
	for i := range 100_000 {
		h := forwarder.Hop{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
		e.hops[h] = true
		all.Realservers = append(all.Realservers, forwarder.Neighbour{Hop: h})
		if i%10 == 0 {
			v := netip.AddrFrom4([4]byte{172, byte(i >> 16), byte(i >> 8), byte(i)})
			e.vips[v] = true
			all.VIPs = append(all.VIPs, v)
		}
	}
	if err := tell.Change(all, nil); err != nil {
		b.Fatal(err)
	}
	one := delta.Change{VIPs: []netip.Addr{vip(1)}, Realservers: []forwarder.Neighbour{server(1, 0)}}
	b.Run("one", func(b *testing.B) {
		for i := range b.N {
			_ = tell.Change(one, func() error {
				e.vips[vip(1)], e.hops[hop(1)] = i%2 == 0, i%2 == 0
				return nil
			})
		}
	})
	b.Run("reload", func(b *testing.B) {
		for b.Loop() {
			_ = tell.Change(all, nil)
		}
	})
}
