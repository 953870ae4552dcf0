package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"shunt/api"
)

// State returns the present state of the guard.
func (g *Guard) State() api.Guard {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.state
	for _, name := range g.interfaces {
		s.Tables = append(s.Tables, g.owner.table(name).Name)
	}
	return s
}

// Times of the watch. Rules that are taken away are put back at once; again and again only with
// growing pauses, so that two programs that do not agree do not use up a processor.
const (
	firstPause   = 200 * time.Millisecond // after the first time
	longestPause = 10 * time.Second
	peace        = time.Minute      // so long without a loss, and the pauses begin anew
	lookEvery    = 30 * time.Second // without a notification
	blindEvery   = time.Second      // where the kernel does not tell of changes
)

// A keeper says when the rules may be put back.
type keeper struct {
	blind error // why the kernel does not tell of changes
	pause time.Duration
	next  time.Time // not before
}

// may reports whether rules may be put back now; else how long that has to wait.
func (k *keeper) may(now time.Time) (wait time.Duration) { return max(k.next.Sub(now), 0) }

// did notes that they were.
func (k *keeper) did(now time.Time) {
	switch {
	case k.pause == 0 || now.Sub(k.next) > peace:
		k.pause = firstPause
	default:
		k.pause = min(2*k.pause, longestPause)
	}
	k.next = now.Add(k.pause)
}

// nfnlGroup is the multicast group of changes of nftables (NFNLGRP_NFTABLES in
// linux/netfilter/nfnetlink.h).
const nfnlGroup = 7

// subscribe has the kernel tell of changes of nftables.
func subscribe() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nftables notifications: %w", err)
	}
	_ = c.SetReadBuffer(1 << 20) // with less, more notifications are lost, and all is looked at then
	if err := c.JoinGroup(nfnlGroup); err != nil {
		return nil, errors.Join(fmt.Errorf("nftables notifications: %w", err), c.Close())
	}
	return c, nil
}

// notePort notes the port of the socket for changes, by which the kernel's notifications say who
// made one.
func (g *Guard) notePort(c *netlink.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) {
		if sa, err := unix.Getsockname(int(fd)); err == nil {
			if nl, ok := sa.(*unix.SockaddrNetlink); ok {
				g.port.Store(nl.Pid)
			}
		}
	}))
}

// Watch restores rules removed by others, until ctx is done or the guard is closed. It calls tell
// after each change of State, with an error if rules could not be restored. It runs in the network
// namespace of Install.
func (g *Guard) Watch(ctx context.Context, tell func(api.Guard, error)) {
	touched := make(chan string, 1)
	blind := make(chan error, 1)
	every := lookEvery
	if g.events == nil {
		every = blindEvery
		tell(g.State(), fmt.Errorf("no kernel notifications about the guard: it is checked every second: %w", g.keeper.blind))
	} else {
		go func() { blind <- g.listen(touched) }()
	}
	timer := time.NewTimer(every)
	defer timer.Stop()
	by := ""
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-blind:
			if err == nil {
				return // closed
			}
			every = blindEvery
			tell(g.State(), fmt.Errorf("kernel notifications about the guard stopped: it is checked every second: %w", err))
		case by = <-touched:
		case <-timer.C:
		}
		wait, changed, err := g.look(by, time.Now())
		if changed || err != nil {
			tell(g.State(), err)
		}
		if wait == 0 {
			wait, by = every, ""
		}
		timer.Reset(wait)
	}
}

// look compares the rules with what they are to be, and puts them back if it may; else it says how
// long to wait. changed tells that the state has.
func (g *Guard) look(by string, now time.Time) (wait time.Duration, changed bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.interfaces) == 0 {
		return 0, false, nil // closed
	}
	what, err := g.missing()
	if err != nil {
		return blindEvery, false, nil // somebody changed something meanwhile, or the kernel has no memory: another time
	}
	if what == "" {
		changed, g.state.Missing = g.state.Missing != "", ""
		return 0, changed, nil
	}
	changed = g.state.Missing != what
	g.state.Missing = what
	if wait = g.keeper.may(now); wait > 0 {
		return wait, changed, nil
	}
	g.keeper.did(now)
	if err := g.set(); err != nil {
		return g.keeper.may(now), changed, fmt.Errorf("the guard was removed (%s) and could not be restored: %w", what, err)
	}
	g.state.Missing, g.state.Last, g.state.By = "", now, by
	g.state.Restored++
	return 0, true, nil
}

// missing says what is not as it is to be; an error tells that it could not be found out. g.mu is
// held.
func (g *Guard) missing() (string, error) {
	c, err := nftables.New()
	if err != nil {
		return "", err
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return "", err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return "", err
	}
	for name, index := range g.on {
		if ifi, err := net.InterfaceByName(name); err != nil || ifi.Index != index {
			continue // it was deleted, and the rules with it
		}
		t := g.owner.table(name)
		at := slices.IndexFunc(tables, func(other *nftables.Table) bool { return other.Name == t.Name })
		switch {
		case at < 0:
			return "table " + t.Name, nil
		case tables[at].Flags != 0:
			return "table " + t.Name + " is dormant", nil
		case !slices.ContainsFunc(chains, func(c *nftables.Chain) bool {
			return c.Table.Name == t.Name && c.Name == chainName && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookIngress &&
				c.Priority != nil && *c.Priority == *nftables.ChainPriorityFirst
		}):
			return "the chain of table " + t.Name, nil
		}
		if what, err := g.missingRules(c, t); what != "" || err != nil {
			return what, err
		}
	}
	return "", nil
}

// missingRules compares the rules and sets of a table.
func (g *Guard) missingRules(c *nftables.Conn, t *nftables.Table) (string, error) {
	rules, err := c.GetRules(t, &nftables.Chain{Name: chainName, Table: t})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return "", err
	}
	if len(rules) != len(families) {
		return fmt.Sprintf("table %s has %d rules, not %d", t.Name, len(rules), len(families)), nil
	}
	for i := range families {
		f := &families[i]
		if !sameRule(rules[i].Exprs, f.rule(0)) {
			return fmt.Sprintf("rule %d of table %s differs", i+1, t.Name), nil
		}
		elements, err := c.GetSetElements(f.set(t))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return "", err
		}
		if !g.same(elements, i) {
			return fmt.Sprintf("set %s of table %s has different addresses", f.name, t.Name), nil
		}
	}
	return "", nil
}

// same reports whether a set has the VIPs of its family, and no others.
func (g *Guard) same(got []nftables.SetElement, family int) bool {
	var all [2][]nftables.SetElement
	for _, v := range g.vips {
		g.at(&all, v)
	}
	want := map[string]bool{}
	for _, e := range all[family] {
		want[string(e.Key)] = true
	}
	for _, e := range got {
		if !want[string(e.Key)] {
			return false
		}
	}
	return len(got) == len(want)
}

// sameRule compares rules, but for what has been counted and how the kernel numbers sets.
func sameRule(got, want []expr.Any) bool {
	return slices.EqualFunc(got, want, func(a, b expr.Any) bool {
		switch a := a.(type) {
		case *expr.Counter:
			_, ok := b.(*expr.Counter)
			return ok
		case *expr.Lookup:
			l, ok := b.(*expr.Lookup)
			return ok && a.SetName == l.SetName && a.SourceRegister == l.SourceRegister && !a.Invert
		}
		return reflect.DeepEqual(a, b)
	})
}

// listen tells when somebody else has touched the tables, and who, as far as the kernel says. It
// returns nil when the guard is closed.
func (g *Guard) listen(touched chan<- string) error {
	prefix := "shunt_" + g.owner.id + "_"
	tell := func(by string) {
		select {
		case touched <- by:
		default: // it is not yet looked at
		}
	}
	ours := false
	for {
		messages, err := g.events.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			tell("") // some were lost
			continue
		case errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "use of closed file"):
			return nil
		case err != nil:
			return err
		}
		for i := range messages {
			m := &messages[i]
			switch kind, own := m.Header.Type&0xff, m.Header.PID == g.port.Load(); {
			case m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || own:
			case kind != unix.NFT_MSG_NEWGEN: // of one change after the other
				ours = ours || strings.HasPrefix(tableIn(m.Data), prefix)
			case ours: // all of the transaction was told
				tell(whoIn(m.Data))
				ours = false
			}
		}
	}
}

// nfgenmsg is the size of the header before a message's attributes (struct nfgenmsg in
// linux/netfilter/nfnetlink.h).
const nfgenmsg = 4

// tableIn is the table that a message of family netdev is about; empty if it is about none. In all
// kinds of messages that matter here the first attribute is the name (NFTA_TABLE_NAME,
// NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE and NFTA_SET_ELEM_LIST_TABLE are 1).
func tableIn(b []byte) string {
	if len(b) < nfgenmsg || b[0] != unix.NFPROTO_NETDEV {
		return ""
	}
	return attributesOf(b)[1]
}

// whoIn names the process that a message about a new generation is of (NFTA_GEN_PROC_PID and
// NFTA_GEN_PROC_NAME).
func whoIn(b []byte) string {
	a := attributesOf(b)
	if len(a[2]) != 4 {
		return ""
	}
	return fmt.Sprintf("%s (process %d)", strings.TrimRight(a[3], "\x00"), binary.BigEndian.Uint32([]byte(a[2])))
}

// attributesOf reads the attributes of a message by their types, as far as they can be read.
func attributesOf(b []byte) map[uint16]string {
	out := map[uint16]string{}
	if len(b) < nfgenmsg {
		return out
	}
	d, err := netlink.NewAttributeDecoder(b[nfgenmsg:])
	if err != nil {
		return out
	}
	for d.Next() {
		out[d.Type()] = string(d.Bytes())
	}
	return out
}
