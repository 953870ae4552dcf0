package director

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
	"testing/synctest"
	"time"

	"shunt/api"
	"shunt/arpd"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/delta"
)

// calls is the fake of a ring, of a guard's rules and of a leg's ARP: it writes down what it is
// told.
type calls struct {
	lines  []string
	err    error
	closed bool
}

func (c *calls) add(a ...any) {
	c.lines = append(c.lines, strings.TrimSuffix(fmt.Sprintln(a...), "\n"))
}

func (c *calls) SetVIPs(vips []netip.Addr) error {
	c.add("all", vips)
	return c.err
}

func (c *calls) SetInterfaces(interfaces []string, vips []netip.Addr) error {
	c.add("interfaces", interfaces, vips)
	return c.err
}

func (c *calls) SetOwn(own []netip.Addr) error {
	c.add("own", own)
	return c.err
}

func (c *calls) State() api.Guard { return api.Guard{Tables: []string{"shunt_0"}} }

func (c *calls) Close() error {
	c.closed = true
	return c.err
}

// rulesOf and linkOf give the two methods of one name their own receivers.
type rulesOf struct{ *calls }

func (r rulesOf) ChangeVIPs(vips, come, gone []netip.Addr) error {
	r.add("change", come, gone, "of", vips)
	return r.err
}

type linkOf struct{ *calls }

func (l linkOf) ChangeVIPs(come, gone []netip.Addr) { l.add("change", come, gone) }

func (l linkOf) ChangeTargets(add map[netip.Addr]frame.MAC, remove []netip.Addr) {
	l.add("targets", slices.SortedFunc(maps.Keys(add), netip.Addr.Compare), remove)
}

func (l linkOf) Suspect(addrs []netip.Addr) { l.add("suspect", addrs) }

func (c *calls) wants(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(c.lines, want) {
		t.Errorf("told was\n  %s\nwant\n  %s", strings.Join(c.lines, "\n  "), strings.Join(want, "\n  "))
	}
	c.lines = nil
}

var (
	vip1 = netip.MustParseAddr("192.0.2.1")
	vip2 = netip.MustParseAddr("192.0.2.2")
	rip1 = netip.MustParseAddr("10.0.0.1")
	rip2 = netip.MustParseAddr("10.0.0.2")

	both   = []netip.Addr{vip1, vip2}
	comes  = &delta.Delta{VIPs: both, Come: []netip.Addr{vip2}}
	goes   = &delta.Delta{VIPs: []netip.Addr{vip2}, Come: []netip.Addr{vip2}, Gone: []netip.Addr{vip1}}
	others = &delta.Delta{Resolve: []forwarder.Neighbour{{Hop: forwarder.Hop{Addr: rip1}}}, Forget: []forwarder.Hop{{Addr: rip2}}}
)

// tellBoth calls what a change calls.
func tellBoth(t *testing.T, s delta.Subscriber, before, after *delta.Delta) {
	t.Helper()
	if err := errors.Join(s.Prepare(before), s.Settle(after)); err != nil {
		t.Error(err)
	}
}

// The filters let old and new VIPs in before the change, and the new ones alone after it.
func TestFiltersFollow(t *testing.T) {
	a, b := &calls{}, &calls{}
	f := filters{a, b}
	tellBoth(t, f, comes, goes)
	for _, c := range []*calls{a, b} {
		c.wants(t, "all [192.0.2.1 192.0.2.2]", "all [192.0.2.2]")
	}
	tellBoth(t, f, others, others)
	a.wants(t)
	tellBoth(t, f, &delta.Delta{VIPs: both, Interfaces: []string{"eth0"}}, &delta.Delta{VIPs: both, Interfaces: []string{"eth0"}})
	a.wants(t, "all [192.0.2.1 192.0.2.2]") // as the sockets are others
	a.err = errors.New("no memory")
	if err := f.Prepare(comes); !errors.Is(err, a.err) {
		t.Errorf("the change is not refused: %v", err)
	}
}

// The responder answers for no VIP that is not served yet.
func TestAnswersFollow(t *testing.T) {
	c := &calls{}
	a := answers{linkOf{c}}
	if err := a.Prepare(comes); err != nil {
		t.Error(err)
	}
	c.wants(t)
	if err := a.Settle(goes); err != nil {
		t.Error(err)
	}
	c.wants(t, "change [192.0.2.2] [192.0.2.1]")
	tellBoth(t, a, others, others)
	c.wants(t)
}

// newGuarded is a guard whose rules are c, or which cannot be installed.
func newGuarded(c *calls, log *slog.Logger, err error) *guarded {
	return &guarded{log: log, own: func() map[netip.Addr]bool { return map[netip.Addr]bool{rip1: true} },
		install: func(interfaces []string, vips, own []netip.Addr) (rules, error) {
			c.add("install", interfaces, vips, own)
			if err != nil {
				return nil, err
			}
			return rulesOf{c}, nil
		}}
}

// The guard is installed by the first delta, and follows the others.
func TestGuardFollows(t *testing.T) {
	c := &calls{}
	g := newGuarded(c, slog.New(slog.DiscardHandler), nil)
	if g.state() != nil || g.close() != nil {
		t.Error("there is a guard before the first delta")
	}
	start := &delta.Delta{VIPs: []netip.Addr{vip1}, Come: []netip.Addr{vip1}, Interfaces: []string{"eth0"}}
	tellBoth(t, g, start, start)
	c.wants(t, "install [eth0] [192.0.2.1] [10.0.0.1]")
	tellBoth(t, g, comes, goes)
	c.wants(t, "change [192.0.2.2] [] of [192.0.2.1 192.0.2.2]", "change [] [192.0.2.1] of [192.0.2.2]")
	moved := &delta.Delta{VIPs: both, Interfaces: []string{"eth9"}, Own: []netip.Addr{rip2}}
	tellBoth(t, g, moved, moved)
	c.wants(t, "interfaces [eth9] [192.0.2.1 192.0.2.2]", "own [10.0.0.2]")
	tellBoth(t, g, others, others)
	c.wants(t)
	if s := g.state(); s == nil || len(s.Tables) != 1 || s.Error != "" {
		t.Errorf("the state is %+v", s)
	}
	c.err = errors.New("no nftables")
	if err := g.Prepare(comes); !errors.Is(err, c.err) {
		t.Errorf("VIPs come without a guard: %v", err)
	}
	if err := g.close(); !errors.Is(err, c.err) || !c.closed {
		t.Errorf("closed: %v, %v", c.closed, err)
	}
}

// Where no guard can be, it is said once, and the director works without one.
func TestNoGuard(t *testing.T) {
	var log bytes.Buffer
	c := &calls{}
	g := newGuarded(c, slog.New(slog.NewTextHandler(&log, nil)), errors.New("not permitted"))
	start := &delta.Delta{VIPs: both, Come: both, Interfaces: []string{"eth0"}}
	for range 2 {
		tellBoth(t, g, start, goes)
	}
	c.wants(t, "install [eth0] [192.0.2.1 192.0.2.2] [10.0.0.1]")
	if s := g.state(); s == nil || s.Error != "not permitted" || strings.Count(log.String(), "no guard") != 1 || g.close() != nil {
		t.Errorf("the state is %+v, the log %s", s, &log)
	}
	if off := (*guarded)(nil); off.state() != nil || off.close() != nil {
		t.Error("with guard: off there is something")
	}
}

// A VIP that is an address of the host is named, and not again within a minute unless it was away.
func TestOwnVIPsAreTold(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1e9, 0)
	own := map[netip.Addr]bool{vip2: true}
	o := &ownVIPs{log: slog.New(slog.NewTextHandler(&log, nil)), read: func() map[netip.Addr]bool { return own }, now: func() time.Time { return now }}
	told := func(what string, d *delta.Delta, want int) {
		t.Helper()
		log.Reset()
		tellBoth(t, o, d, d)
		if n := strings.Count(log.String(), "vip=192.0.2.2"); n != want || strings.Count(log.String(), "\n") != want {
			t.Errorf("%s: %s", what, &log)
		}
	}
	has, hasNot := &delta.Delta{VIPs: both, Own: []netip.Addr{vip2, rip1}}, &delta.Delta{VIPs: both, Own: []netip.Addr{}}
	told("comes", comes, 1)
	told("is still there", has, 0)
	now = now.Add(warnAgain)
	told("a minute later", has, 1)
	told("went", hasNot, 0)
	told("came back", has, 1)
	told("of others", others, 0)
}

// learner is an engine that is told MACs.
type learner struct{ told []forwarder.Neighbour }

func (l *learner) SetNeighbours(list []forwarder.Neighbour) error {
	l.told = append(l.told, list...)
	return nil
}

func (l *learner) FromClients(mac frame.MAC) bool { return mac == frame.MAC{2, 9} }

func newNeighbours(log *slog.Logger) (n *neighbours, e *learner, a, b *calls) {
	e, a, b = &learner{}, &calls{}, &calls{}
	return &neighbours{log: log, engine: e, names: []string{"front", "back"}, links: []targets{linkOf{a}, linkOf{b}},
		known: map[forwarder.Hop]arpd.Neighbour{}}, e, a, b
}

// Each leg is told of its own realservers, and what is known of those that went is forgotten.
func TestNeighboursFollow(t *testing.T) {
	n, e, a, b := newNeighbours(slog.New(slog.DiscardHandler))
	d := &delta.Delta{Resolve: []forwarder.Neighbour{{Hop: forwarder.Hop{Leg: 0, Addr: rip1}}, {Hop: forwarder.Hop{Leg: 1, Addr: rip2}}}}
	if err := n.Prepare(d); err != nil {
		t.Error(err)
	}
	a.wants(t, "targets [10.0.0.1] []")
	b.wants(t, "targets [10.0.0.2] []")
	mac := frame.MAC{2, 1}
	n.learn(1, []arpd.Neighbour{{Addr: rip2, MAC: mac, State: arpd.Resolved}})
	there := forwarder.Hop{Leg: 1, Addr: rip2}
	if n.at(there).MAC != mac || n.realserverAt(mac, false) != rip2 || len(e.told) != 1 || e.told[0].MAC != mac || e.told[0].Leg != 1 {
		t.Errorf("known is %+v, the engine was told %+v", n.known, e.told)
	}
	if err := n.Settle(&delta.Delta{Forget: []forwarder.Hop{there}}); err != nil {
		t.Error(err)
	}
	a.wants(t)
	b.wants(t, "targets [] [10.0.0.2]")
	if len(n.known) != 0 || n.realserverAt(mac, false).IsValid() {
		t.Errorf("still known is %+v", n.known)
	}
	n.suspect([]forwarder.Hop{{Leg: 0, Addr: rip1}, {Leg: 1, Addr: rip2}})
	a.wants(t, "suspect [10.0.0.1]")
	b.wants(t, "suspect [10.0.0.2]")
}

// Prepare waits for the MACs of those that come, and no longer than it may.
func TestNeighboursAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, _, _ := newNeighbours(slog.New(slog.DiscardHandler))
		d := &delta.Delta{Resolve: []forwarder.Neighbour{{Hop: forwarder.Hop{Leg: 0, Addr: rip1}}}, Wait: time.Second}
		wait := func() time.Duration {
			began := time.Now()
			if err := n.Prepare(d); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		if took := wait(); took != time.Second {
			t.Errorf("without an answer it took %v", took)
		}
		go func() {
			time.Sleep(99 * time.Millisecond)
			n.learn(0, []arpd.Neighbour{{Addr: rip1, MAC: frame.MAC{2, 1}, State: arpd.Resolved}})
		}()
		if took := wait(); took != 100*time.Millisecond {
			t.Errorf("with an answer after 99 ms it took %v", took)
		}
		if took := wait(); took != 0 {
			t.Errorf("with what is known it took %v", took)
		}
	})
}

// A realserver with the MAC of a clients' router is an error in the log; one that is silent a
// warning.
func TestNeighboursLogged(t *testing.T) {
	var log bytes.Buffer
	n, _, _, _ := newNeighbours(slog.New(slog.NewTextHandler(&log, nil)))
	for _, c := range []struct {
		mac   frame.MAC
		state arpd.State
		want  string
	}{
		{frame.MAC{2, 1}, arpd.Resolved, "level=INFO msg=realserver "},
		{frame.MAC{2, 2}, arpd.Resolved, "realserver MAC changed"},
		{frame.MAC{2, 9}, arpd.Resolved, "level=ERROR msg=\"the realserver's MAC is also the source MAC of client frames"},
		{frame.MAC{2, 9}, arpd.Failed, "level=WARN msg=\"realserver does not answer ARP"},
	} {
		log.Reset()
		n.learn(0, []arpd.Neighbour{{Addr: rip1, MAC: c.mac, State: c.state}})
		if !strings.Contains(log.String(), c.want) || !strings.Contains(log.String(), "leg=front") {
			t.Errorf("%v, %v: %s, want %s", c.mac, c.state, &log, c.want)
		}
	}
}
