package wiretest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/api"
	"shunt/forwarder/frame"
	"shunt/internal/figures"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// tables lists the guard's tables on the director's host.
func (w *world) tables() (out []string) {
	w.t.Helper()
	w.must(w.Director.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		all, err := c.ListTables()
		for _, t := range all {
			if strings.HasPrefix(t.Name, "shunt_") {
				out = append(out, t.Name)
			}
		}
		return err
	}))
	slices.Sort(out)
	return out
}

// tableOn is the guard's table on an interface, of the only director.
func (w *world) tableOn(name string) string {
	w.t.Helper()
	for _, t := range w.tables() {
		if strings.HasSuffix(t, "_"+name) {
			return t
		}
	}
	w.t.Fatalf("there is no table on %s, only %v", name, w.tables())
	return ""
}

// guardState is what the director says of its guard.
func (w *world) guardState() api.Guard {
	w.t.Helper()
	o := w.overview()
	if o.Guard == nil {
		return api.Guard{}
	}
	return *o.Guard
}

// warned waits until status and page warn of something.
func (w *world) warned(title string) {
	w.t.Helper()
	w.eventually("there is the warning "+title, func() bool {
		o := w.overview()
		return slices.ContainsFunc(figures.Warnings(&o), func(x figures.Warning) bool { return x.Title == title })
	})
}

// localRoute has the director's kernel take what is for the VIP as for itself, though it is no
// address of an interface.
func (w *world) localRoute() error {
	lo, err := w.Director.Netlink().LinkByName("lo")
	if err != nil {
		return err
	}
	_, dst, err := net.ParseCIDR(w.family.vip + w.family.alone)
	if err != nil {
		return err
	}
	if w.family.number() == unix.AF_INET6 {
		if err := w.Director.IPv6("lo"); err != nil {
			return err
		}
	}
	return w.Director.Netlink().RouteReplace(&netlink.Route{
		Dst: dst, LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}

// guarded counts what the guard on an interface has dropped.
func (w *world) guarded(name string) (n uint64) {
	w.t.Helper()
	table := &nftables.Table{Family: nftables.TableFamilyNetdev, Name: w.tableOn(name)} // which asks the host, too
	w.must(w.Director.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		rules, err := c.GetRules(table, &nftables.Chain{Table: table, Name: "ingress"})
		for _, r := range rules {
			for _, e := range r.Exprs {
				if count, ok := e.(*expr.Counter); ok {
					n += count.Packets
				}
			}
		}
		return err
	}))
	return n
}

// kernelReplies counts what the director's host sent from the VIP.
func kernelReplies(records []netlab.Record) (n int) {
	for _, c := range fromTo(records, func(r *netlab.Record, p *frame.Packet) bool { return !r.ToHost && fromVIP(p) }) {
		n += c
	}
	return n
}

// The director's host takes what is for the VIP as for itself, by a local route: its kernel would
// refuse the connections that the director forwards. The guard keeps it out; not, however, once the
// VIP is an address of the host.
func TestGuardAgainstAnswers(t *testing.T) {
	eachFamily(t, 2, guardAgainstAnswers, "one-arm")
}

func guardAgainstAnswers(t *testing.T, w *world) {
	w.must(w.Director.DefaultRoute(w.family.gateway)) // and so it has a way to the client
	w.must(w.localRoute())
	w.must(w.Director.Sysctl(w.family.forwarding, "1"))
	// The director itself is not to answer, so that what comes from the VIP is the kernel's.
	config := func(guard string) string { return w.config("answer: false\nguard: "+guard, w.http("rr")) }
	w.start(config("auto"))
	w.logged("guard installed")
	captures := w.capture()
	w.pages(20, 4)
	d := dialer(time.Second)
	var ne net.Error
	if _, err := w.Client.Dial(d, w.family.tcp, w.family.at(w.family.vip, "81")); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("a port without a service: %v, not silence", err)
	}
	if n := kernelReplies(w.records(captures["director"])); n != 0 {
		t.Errorf("the director's kernel sent %d frames from the VIP in spite of the guard", n)
	}
	vip := netip.MustParseAddr(w.family.vip)
	exposed := func() bool { g := w.guardState(); return len(g.Exposed) == 1 && g.Exposed[0] == vip }
	w.must(w.Director.Addr("lo", w.family.vip+w.family.alone))
	w.logged("level=ERROR", "the VIP is an address of this host", w.family.vip)
	w.eventually("the guard leaves an address of the host alone", exposed)
	if _, err := w.Client.Dial(dialer(patience), w.family.tcp, w.family.at(w.family.vip, "81")); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("an address of the host is kept from it: %v, not a refusal", err)
	}
	w.warned("The VIP " + w.family.vip + " is an address of this host")
	lo, err := w.Director.Netlink().LinkByName("lo")
	w.must(err)
	own, err := netlink.ParseAddr(w.family.vip + w.family.alone)
	w.must(err)
	w.must(w.Director.Netlink().AddrDel(lo, own))
	w.must(w.localRoute()) // which the kernel removed with the address
	w.eventually("the guard is for the VIP again", func() bool { return !exposed() })
	w.stop()

	w.start(config("off"))
	if got := w.tables(); len(got) != 0 {
		t.Errorf("guard: off, and there are the tables %v", got)
	}
	captures = w.capture()
	if c, err := w.Client.Dial(dialer(patience), w.family.tcp, w.family.at(w.family.vip, "80")); err == nil {
		// The realserver's SYN-ACK may be faster than the kernel's RST, which ends the connection
		// then.
		c.Close()
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("without the guard: %v, not a refusal", err)
	}
	w.eventually("the director's kernel answers without the guard", func() bool { return kernelReplies(captures["director"].Records()) > 0 })
}

// The director's host is also a router, and has a way to the VIP: its kernel would send on a copy
// of each frame. The guard keeps it from that.
func TestGuardAgainstRouting(t *testing.T) {
	eachFamily(t, 1, guardAgainstRouting, "two-arm")
}

// routed makes the director's host a router that has a way to the VIP.
func (w *world) routed() {
	w.t.Helper()
	w.must(w.Director.Sysctl(w.family.forwarding, "1"))
	for _, key := range []string{"all", "eth0", "eth1"} {
		w.must(w.Director.Sysctl("net.ipv4.conf."+key+".rp_filter", "0"))
	}
	_, vip, err := net.ParseCIDR(w.family.vip + w.family.alone)
	w.must(err)
	w.must(w.Director.Netlink().RouteAdd(&netlink.Route{Dst: vip, Gw: net.ParseIP(w.family.rip(1))}))
}

// ttls counts the frames to the VIP that a realserver got, by their TTL.
func (w *world) ttls(c *netlab.Capture) map[byte]int {
	out := map[byte]int{}
	for _, r := range c.Records() {
		f := frame.Frame{Buf: r.Data, Wire: int32(r.Length)}
		var p frame.Packet
		if frame.Parse(&f, &p) == frame.OK && r.ToHost && toVIP(&p) {
			out[r.Data[frame.HeaderLen+w.family.ttl]]++
		}
	}
	return out
}

func guardAgainstRouting(t *testing.T, w *world) {
	w.routed()
	w.start(w.config("guard: auto", w.http("rr")))
	captures := w.capture()
	w.pages(10, 1)
	w.must(captures["web1"].Close())
	if got := w.ttls(captures["web1"]); got[64] == 0 || len(got) != 1 {
		t.Errorf("the realserver got frames of the TTLs %v, not only the client's 64", got)
	}
	w.stop()

	w.start(w.config("guard: off", w.http("rr")))
	captures = w.capture()
	w.pages(1, 1)
	w.eventually("the director's kernel routes without the guard", func() bool { return w.ttls(captures["web1"])[63] > 0 })
}

// What a director leaves behind that is killed does no harm to the next, which takes it over.
func TestKilled(t *testing.T) {
	eachFamily(t, 2, killed, "two-arm")
}

func killed(t *testing.T, w *world) {
	config := w.config("", w.http("rr"))
	var both []string
	for range 2 {
		w.start(config)
		got := w.tables()
		if both == nil {
			both = got
		}
		if len(both) != 2 || !slices.Equal(got, both) {
			t.Errorf("there are the tables %v, not %v", got, both)
		}
		if got := w.pages(4, 1); got["web1"] != 2 || got["web2"] != 2 {
			t.Errorf("rr spread 4 connections as %v", got)
		}
		w.director.Kill()
		w.director = nil
		if got := w.tables(); !slices.Equal(got, both) {
			t.Errorf("after SIGKILL there are the tables %v, not %v", got, both)
		}
	}
	w.start(config)
	w.pages(4, 1)
	if got := w.tables(); !slices.Equal(got, both) {
		t.Errorf("there are the tables %v, not %v", got, both)
	}
	w.stop()
	if got := w.tables(); len(got) != 0 {
		t.Errorf("after SIGTERM there are the tables %v", got)
	}
}

// Several directors are on one host and its interfaces, with VIPs of their own, and the kernel
// routes. Others come, go and are killed: the guard of the first stays, and each finds its own
// again.
func TestTwoDirectors(t *testing.T) {
	w := buildFor(t, ipv4Family, "two-arm", 1)
	w.routed()
	w.start(w.config("guard: auto", w.http("rr")))
	mine := w.tables()
	captures := w.capture()
	alone := func(when string, others int) {
		t.Helper()
		w.pages(3, 1)
		got := w.tables()
		if len(got) != len(mine)+others || slices.ContainsFunc(mine, func(name string) bool { return !slices.Contains(got, name) }) {
			t.Errorf("%s there are the tables %v; those of the first director are %v", when, got, mine)
		}
	}
	other := w.http("rr")
	other.vip = "192.168.10.101"
	socket := filepath.Join(w.dir, "other.sock")
	config := strings.ReplaceAll(w.config("guard: auto", other), w.socket, socket)
	begin := func() *lab.Director {
		t.Helper()
		dir := filepath.Join(w.dir, "other")
		w.must(os.MkdirAll(dir, 0o755))
		d, err := w.Start(program, dir, config, socket, nil)
		w.must(err)
		return d
	}
	alone("before", 0)
	second := begin()
	alone("beside another", 2)
	w.must(second.Stop())
	alone("after the other ended", 0)
	begin().Kill()
	alone("after the other was killed", 2)
	second = begin()
	alone("after it came again", 2)
	w.must(second.Stop())
	alone("at last", 0)
	if got := w.ttls(captures["web1"]); got[64] == 0 || len(got) != 1 {
		t.Errorf("the realserver got frames of the TTLs %v, not only the client's 64: the kernel routed copies", got)
	}
}

// Another program takes the guard away: it is back within a second, and the operator is told.
// Meanwhile and after, clients are served.
func TestGuardTakenAway(t *testing.T) {
	eachFamily(t, 1, guardTakenAway, "two-arm")
}

func guardTakenAway(t *testing.T, w *world) {
	w.routed()
	w.start(w.config("guard: auto", w.http("rr")))
	before := w.tables()
	w.must(w.Director.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.FlushRuleset()
		return c.Flush()
	}))
	w.eventually("the guard is back", func() bool { return w.guardState().Restored == 1 })
	if got := w.tables(); !slices.Equal(got, before) {
		t.Errorf("the tables are %v, not %v", got, before)
	}
	captures := w.capture()
	w.pages(5, 1)
	w.must(captures["web1"].Close())
	if got := w.ttls(captures["web1"]); got[64] == 0 || len(got) != 1 {
		t.Errorf("the realserver got frames of the TTLs %v, not only the client's 64", got)
	}
	w.logged("level=ERROR", "guard removed by another process and restored", "by=")
	w.warned("The guard was taken away")
	if g := w.guardState(); g.Missing != "" || g.By == "" || time.Since(g.Last) > patience {
		t.Errorf("the guard's state is %+v", g)
	}
}
