package wiretest

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
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

// guarded counts what the guard on an interface has dropped.
func (w *world) guarded(name string) (n uint64) {
	w.t.Helper()
	w.must(w.Director.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: nftables.TableFamilyNetdev, Name: "shunt_" + name}
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

// The VIP is on the director's own interface, as it is with the kernel's IPVS: its kernel would refuse the connections that
// the director forwards. The guard keeps it out.
func TestGuardAgainstAnswers(t *testing.T) {
	eachFamily(t, 2, guardAgainstAnswers, "one-arm")
}

func guardAgainstAnswers(t *testing.T, w *world) {
	w.must(w.Director.Addr("eth0", w.family.vip+w.family.network)) // and so it has a way to the client
	w.must(w.Director.Sysctl(w.family.forwarding, "1"))
	// The director itself is not to answer, so that what comes from the VIP is the kernel's.
	config := func(guard string) string { return w.config("answer: false\nguard: "+guard, w.http("rr")) }
	w.start(config("auto"))
	w.logged("level=WARN", "the VIP is an address of this host", w.family.vip)
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
	w.stop()

	w.start(config("off"))
	if got := w.tables(); len(got) != 0 {
		t.Errorf("guard: off, and there are the tables %v", got)
	}
	captures = w.capture()
	if c, err := w.Client.Dial(dialer(patience), w.family.tcp, w.family.at(w.family.vip, "80")); err == nil {
		// The realserver's SYN-ACK may be faster than the kernel's RST, which ends the connection then.
		c.Close()
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("without the guard: %v, not a refusal", err)
	}
	w.eventually("the director's kernel answers without the guard", func() bool { return kernelReplies(captures["director"].Records()) > 0 })
}

// The director's host is also a router, and has a way to the VIP: its kernel would send on a copy of each frame. The guard
// keeps it from that.
func TestGuardAgainstRouting(t *testing.T) {
	eachFamily(t, 1, guardAgainstRouting, "two-arm")
}

func guardAgainstRouting(t *testing.T, w *world) {
	w.must(w.Director.Sysctl(w.family.forwarding, "1"))
	for _, key := range []string{"all", "eth0", "eth1"} {
		w.must(w.Director.Sysctl("net.ipv4.conf."+key+".rp_filter", "0"))
	}
	_, vip, err := net.ParseCIDR(w.family.vip + w.family.alone)
	w.must(err)
	w.must(w.Director.Netlink().RouteAdd(&netlink.Route{Dst: vip, Gw: net.ParseIP(w.family.rip(1))}))
	// copies counts the frames to the VIP that the realserver got, by their TTL.
	copies := func(c *netlab.Capture) map[byte]int {
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
	w.start(w.config("guard: auto", w.http("rr")))
	captures := w.capture()
	w.pages(10, 1)
	w.must(captures["web1"].Close())
	if got := copies(captures["web1"]); got[64] == 0 || len(got) != 1 {
		t.Errorf("the realserver got frames of the TTLs %v, not only the client's 64", got)
	}
	w.stop()

	w.start(w.config("guard: off", w.http("rr")))
	captures = w.capture()
	w.pages(1, 1)
	w.eventually("the director's kernel routes without the guard", func() bool { return copies(captures["web1"])[63] > 0 })
}

// What a director leaves behind that is killed does no harm to the next, which takes it over.
func TestKilled(t *testing.T) {
	eachFamily(t, 2, killed, "two-arm")
}

func killed(t *testing.T, w *world) {
	both := []string{"shunt_eth0", "shunt_eth1"}
	config := w.config("", w.http("rr"))
	for range 2 {
		w.start(config)
		if got := w.tables(); !slices.Equal(got, both) {
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
