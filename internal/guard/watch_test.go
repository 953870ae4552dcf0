package guard

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"shunt/api"
	"shunt/internal/netlab"
)

// kill leaves a guard's rules as a killed director does.
func kill(t *testing.T, g *Guard) {
	t.Helper()
	if err := errors.Join(g.release(), g.owner.release()); err != nil {
		t.Fatal(err)
	}
}

// found names the tables of all directors, with a + where the director runs.
func found(t *testing.T, h *netlab.Host) (out []string) {
	t.Helper()
	err := h.Do(func() error {
		all, err := Find()
		for _, x := range all {
			name := x.Name + " on " + x.Interface
			if x.Alive {
				name += " +"
			}
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// whole looks once, and reports whether nothing is missing.
func whole(g *Guard) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	what, err := g.missing()
	return what == "", err
}

// twoLegs makes a host with two interfaces.
func twoLegs(t *testing.T) *netlab.Host {
	t.Helper()
	n := netlab.New()
	t.Cleanup(func() { n.Close() })
	sw, err := n.Switch("sw")
	if err != nil {
		t.Fatal(err)
	}
	h, err := n.Host("director")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eth0", "eth1"} {
		if err := h.Cable(name, "02:00:00:00:00:0"+name[3:], sw, "p"+name); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// Directors on one interface have tables of their own. One that was killed takes its own over
// again, and leaves none on an interface that it does not use any more; those of the others stay.
// Two of one identity, as in two containers that share the network, do no harm to each other
// either.
func TestOwners(t *testing.T) {
	h := twoLegs(t)
	vips := []netip.Addr{netip.MustParseAddr("10.0.0.100")}
	install := func(identity string, interfaces ...string) (g *Guard) {
		t.Helper()
		if err := h.Do(func() (err error) { g, err = Install(identity, interfaces, vips, nil); return err }); err != nil {
			t.Fatal(err)
		}
		return g
	}
	closed := func(g *Guard) {
		t.Helper()
		if err := h.Do(g.Close); err != nil {
			t.Fatal(err)
		}
	}
	table := func(identity string, alike int, name, alive string) string {
		return "shunt_" + idsOf(identity)[alike] + "_" + name + " on " + name + alive
	}
	expect := func(when string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if got := found(t, h); !slices.Equal(got, want) {
			t.Errorf("%s there are %q, not %q", when, got, want)
		}
	}
	a, b := install("a", "eth0", "eth1"), install("b", "eth0")
	a0, a1, b0 := table("a", 0, "eth0", " +"), table("a", 0, "eth1", " +"), table("b", 0, "eth0", " +")
	expect("with two", a0, a1, b0)
	kill(t, a)
	expect("after one was killed", table("a", 0, "eth0", ""), table("a", 0, "eth1", ""), b0)
	a = install("a", "eth0")
	expect("after it came again on one interface", a0, b0)
	twin := install("a", "eth0")
	expect("with one of the same identity", a0, table("a", 1, "eth0", " +"), b0)
	kill(t, twin)
	closed(a)
	expect("after one ended and its twin was killed", table("a", 1, "eth0", ""), b0)
	a = install("a", "eth0")
	expect("after one came again", a0, b0)
	closed(a)
	expect("after one ended", b0)
	closed(b)
	expect("after both ended")
}

// inside runs fn in the network namespace of a host, beside what the host does.
func inside(h *netlab.Host, fn func() error) error {
	ns := -1
	err := h.Do(func() (err error) {
		ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return err
	}
	runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
	if err := errors.Join(unix.Setns(ns, unix.CLONE_NEWNET), unix.Close(ns)); err != nil {
		return err
	}
	return fn()
}

// Whatever others take away is noticed by the kernel's notifications, and put back; who did it is
// told.
func TestPutBack(t *testing.T) {
	h := twoLegs(t)
	vips := []netip.Addr{netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("2001:db8::1")}
	var g *Guard
	states := make(chan api.Guard, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- inside(h, func() (err error) {
			if g, err = Install("a", []string{"eth0", "eth1"}, vips, nil); err != nil {
				return err
			}
			states <- g.State()
			g.Watch(ctx, func(s api.Guard, err error) {
				if err != nil {
					t.Error(err)
				}
				states <- s
			})
			return g.Close()
		})
	}()
	next := func() api.Guard {
		t.Helper()
		select {
		case s := <-states:
			return s
		case err := <-ended:
			t.Fatalf("the watch ended: %v", err)
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is told")
		}
		panic("unreachable")
	}
	first := next()
	if len(first.Tables) != 2 {
		t.Fatalf("the tables are %v", first.Tables)
	}
	table := tableOf(first.Tables[1])
	chain := &nftables.Chain{Name: chainName, Table: table}
	rule := func(c *nftables.Conn, i int) *nftables.Rule {
		rules, err := c.GetRules(table, chain)
		if err != nil || len(rules) != 2 {
			t.Fatalf("%d rules, %v", len(rules), err)
		}
		rules[i].Chain.Table = table
		return rules[i]
	}
	restored := uint64(0)
	for _, spoil := range []struct {
		name string
		how  func(c *nftables.Conn) error
	}{
		{"the ruleset", func(c *nftables.Conn) error { c.FlushRuleset(); return nil }},
		{"a table", func(c *nftables.Conn) error { c.DelTable(table); return nil }},
		{"a rule", func(c *nftables.Conn) error { return c.DelRule(rule(c, 1)) }},
		{"all rules", func(c *nftables.Conn) error { c.FlushChain(chain); return nil }},
		{"an address", func(c *nftables.Conn) error {
			return c.SetDeleteElements(families[1].set(table), []nftables.SetElement{{Key: vips[1].AsSlice()}})
		}},
		{"all addresses", func(c *nftables.Conn) error { c.FlushSet(families[0].set(table)); return nil }},
		{"an address more", func(c *nftables.Conn) error {
			return c.SetAddElements(families[0].set(table), []nftables.SetElement{{Key: []byte{10, 0, 0, 1}}})
		}},
		{"the chain", func(c *nftables.Conn) error { c.FlushChain(chain); c.DelChain(chain); return nil }},
		{"a rule before", func(c *nftables.Conn) error {
			r := rule(c, 0)
			c.InsertRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.Exprs[4:5]})
			return nil
		}},
	} {
		g.mu.Lock()
		g.keeper = keeper{} // as if it were long ago
		g.mu.Unlock()
		err := h.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			return errors.Join(spoil.how(c), c.Flush())
		})
		if err != nil {
			t.Fatalf("%s: %v", spoil.name, err)
		}
		s := next()
		restored++
		if s.Restored != restored || s.Missing != "" || s.By == "" || s.Last.IsZero() {
			t.Errorf("%s was taken away: %+v", spoil.name, s)
		}
		if err := h.Do(func() error { ok, err := whole(g); return errors.Join(err, told(ok)) }); err != nil {
			t.Errorf("%s was taken away: %v", spoil.name, err)
		}
	}
	// What concerns others, and what the director changes itself, is nothing to be put back.
	err := h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(tableOf("another"))
		return errors.Join(c.Flush(), g.SetVIPs(vips[:1]), g.ChangeVIPs(vips, vips[1:], nil), g.SetInterfaces([]string{"eth1"}, vips))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := found(t, h); len(got) != 1 {
		t.Errorf("on one interface there are %v", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	select {
	case s := <-states:
		t.Errorf("without a loss it told %+v", s)
	default:
	}
	if got := found(t, h); len(got) != 0 {
		t.Errorf("at the end there are %v", got)
	}
}

// told is an error if something is missing.
func told(ok bool) error {
	if ok {
		return nil
	}
	return errors.New("something is missing yet")
}

// Two programs that do not agree meet more and more rarely.
func TestKeeper(t *testing.T) {
	var k keeper
	now := time.Unix(1000, 0)
	if k.may(now) != 0 {
		t.Error("the first time waits")
	}
	var pauses []time.Duration
	for range 8 {
		k.did(now)
		wait := k.may(now)
		pauses = append(pauses, wait)
		now = now.Add(wait)
		if k.may(now) != 0 {
			t.Error("the wait is not enough")
		}
	}
	want := []time.Duration{200, 400, 800, 1600, 3200, 6400, 10_000, 10_000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !slices.Equal(pauses, want) {
		t.Errorf("the pauses are %v, not %v", pauses, want)
	}
	now = now.Add(peace + time.Second)
	k.did(now)
	if got := k.may(now); got != firstPause {
		t.Errorf("after a long peace the pause is %s", got)
	}
}

func TestNotifications(t *testing.T) {
	for _, b := range [][]byte{nil, {unix.NFPROTO_NETDEV}, {unix.NFPROTO_NETDEV, 0, 0, 0}, {unix.NFPROTO_NETDEV, 0, 0, 0, 9, 0, 1, 0}} {
		if got := tableIn(b); got != "" {
			t.Errorf("%v is about table %q", b, got)
		}
		if got := whoIn(b); got != "" {
			t.Errorf("%v is of %q", b, got)
		}
	}
}
