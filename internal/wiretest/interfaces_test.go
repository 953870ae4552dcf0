package wiretest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/arpd"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// A cabled is one of the director's legs as the laboratory made it.
type cabled struct {
	name, mac string
	addrs     []string
}

// legsOf lists the director's legs.
func legsOf(topology string) []cabled {
	private := []string{lab.DIP + "/24", lab.DIP6 + "/64"}
	if topology == "one-arm" {
		return []cabled{{"eth0", lab.DirectorMAC, private}}
	}
	return []cabled{{"eth0", lab.DirectorMAC, []string{lab.PublicDIP + "/24"}}, {"eth1", privateMAC, private}}
}

// A leg's interface is deleted and made anew: the director takes the new one by itself, with
// another MAC too, guards it, announces the VIP by it and resolves the realservers by it;
// connections go on, with one worker and with several.
func TestInterfaceDeletedAndMadeAnew(t *testing.T) {
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			eachFamily(t, 2, func(t *testing.T, w *world) { interfaceDeletedAndMadeAnew(t, w, workers) })
		})
	}
}

func interfaceDeletedAndMadeAnew(t *testing.T, w *world, workers int) {
	w.serveTalks()
	w.start(w.config(fmt.Sprintf("workers: %d\narp: {announce: 0, refresh: 1h}", workers), on("tcp", 7, w.all())))
	talks := []*talk{w.talk(), w.talk()}
	guarded := w.tables()
	for i, leg := range legsOf(w.Topology) {
		mac := fmt.Sprintf("02:00:00:00:00:c%d", i)
		for round := range 2 { // the first time with another MAC
			if round == 1 {
				mac = leg.mac
			}
			before := strings.Count(w.director.Log(), "interface present again")
			w.must(w.Director.Delete(leg.name))
			w.logged("level=ERROR", "interface deleted", leg.name)
			w.cable(leg.name, mac, leg.addrs...)
			w.eventually("the director has taken the new interface", func() bool {
				return strings.Count(w.director.Log(), "interface present again") == before+1
			})
			if leg.name == "eth0" {
				w.eventually("the client knows the new MAC", func() bool { return w.believes(w.Client, w.family.vip) == mac })
			}
			for _, k := range talks {
				w.must(k.say("again"))
			}
			if got := w.tables(); !slices.Equal(got, guarded) {
				t.Errorf("the guard's tables were %v and are %v", guarded, got)
			}
			w.guards(leg.name)
			w.pagesByTalk(4)
		}
	}
	// A ring has two sockets on each leg, and ARP has two.
	if n, want := w.packetSockets(), len(legsOf(w.Topology))*(2*workers+2); n != want {
		t.Errorf("the director has %d packet sockets, not %d", n, want)
	}
}

// guards checks that the guard's rule is on an interface: it counts what the director takes.
func (w *world) guards(name string) {
	w.t.Helper()
	if name != "eth0" {
		return // no frames to the VIP come in by another leg
	}
	before := w.guarded(name)
	w.talk()
	if n := w.guarded(name); n <= before {
		w.t.Errorf("the guard on %s has dropped %d frames, and %d before another connection", name, n, before)
	}
}

// A leg that is not there when the configuration is read again is no reason to refuse it, and it
// comes back as all others.
func TestReloadWithoutInterface(t *testing.T) {
	eachFamily(t, 2, reloadWithoutInterface, "two-arm")
}

func reloadWithoutInterface(t *testing.T, w *world) {
	w.start(w.config("arp: {announce: 0}", w.http("rr")))
	w.pages(2, 1)
	w.must(w.Director.Delete("eth1"))
	w.logged("interface deleted", "eth1")
	w.reload(w.config("arp: {announce: 0}", w.http("wrr")))
	w.cable("eth1", privateMAC, lab.DIP+"/24", lab.DIP6+"/64")
	w.logged("interface present again", "eth1")
	w.pages(4, 1)
	if s := w.service().Scheduler; s != "wrr" {
		t.Errorf("the scheduler is %s", s)
	}
}

// An interface that is missing at the start is an error that says which there are.
func TestInterfaceMissingAtStart(t *testing.T) {
	w := build(t, "one-arm", 1)
	_, err := w.Start(program, w.dir, w.config("legs: [{interface: eth7}]", w.http("rr")), w.socket, nil)
	if err == nil || !strings.Contains(err.Error(), "no interface eth7 on this host; the interfaces are lo, eth0") || !strings.Contains(err.Error(), "shunt.yaml:3:20:") {
		t.Errorf("the error is %v", err)
	}
}

// The interface is renamed under a running director: it stays the leg, guard and all.
func TestInterfaceRenamed(t *testing.T) {
	eachFamily(t, 2, interfaceRenamed, "one-arm")
}

func interfaceRenamed(t *testing.T, w *world) {
	w.start(w.config("arp: {announce: 0}", w.http("rr")))
	link, err := w.Director.Netlink().LinkByName("eth0")
	w.must(err)
	rename := func(to string) {
		t.Helper()
		w.must(w.Director.Netlink().LinkSetDown(link)) // older kernels rename no interface that is up
		w.must(w.Director.Netlink().LinkSetName(link, to))
		w.must(w.Director.Netlink().LinkSetUp(link))
		w.logged("interface renamed", "interface="+to)
		w.pages(4, 1)
		w.eventually("the guard is on the interface by its new name", func() bool { return len(w.tables()) == 1 && strings.HasSuffix(w.tables()[0], "_"+to) })
		before := w.guarded(to)
		w.pages(1, 1)
		if n := w.guarded(to); n <= before {
			t.Errorf("the guard has dropped %d frames, and %d before", n, before)
		}
	}
	rename("lan0")
	rename("eth0")
}

// The leg's own address changes: questions for realservers come from the new one, and realservers
// that are in the networks of another leg now are looked for there.
func TestAddressChanges(t *testing.T) {
	eachFamily(t, 2, addressChanges, "two-arm")
}

func addressChanges(t *testing.T, w *world) {
	f := w.family
	w.start(w.config("arp: {announce: 0, refresh: 1s}", w.http("rr")))
	w.pages(4, 1)
	eth1, err := w.Director.Netlink().LinkByName("eth1")
	w.must(err)
	// The address of the private leg moves within its network.
	moved := f.in(10, 77)
	captures := w.capture()
	old, err := netlink.ParseAddr(f.dip + f.network)
	w.must(err)
	w.must(w.Director.Addr("eth1", moved+f.network))
	w.must(w.Director.Netlink().AddrDel(eth1, old)) // the kernel may remove the second with the first
	if list, err := w.Director.Netlink().AddrList(eth1, f.number()); err != nil || !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.String() == moved }) {
		w.must(w.Director.Addr("eth1", moved+f.network))
	}
	w.logged("interface addresses changed", "eth1", moved)
	w.eventually("realservers are asked for from the new address", func() bool {
		return slices.ContainsFunc(captures["director-private"].Records(), asks(moved, f.rip(1)))
	})
	w.pages(4, 1)

	// A third realserver, in a network that no leg has: it is refused until the leg has an address
	// there.
	far, beside, other := f.in(20, 13), f.in(20, 2)+f.network, f.in(20, 3)+f.half
	w.must(w.Webs[1].Addr("eth0", far+f.network))
	with := w.http("rr", realserver{address: f.rip(1), weight: 1}, realserver{address: far, weight: 1})
	if text := w.refused(w.config("arp: {announce: 0, refresh: 1s}", with), w.services()); !strings.Contains(text, "on none of the legs' networks") {
		t.Errorf("the log has %q", text)
	}
	w.must(w.Director.Addr("eth1", beside))
	w.logged("interface addresses changed", beside)
	w.reload(w.config("arp: {announce: 0, refresh: 1s}", with))
	if got := w.pages(4, 1); got["web2"] != 2 {
		t.Errorf("rr spread 4 connections as %v", got)
	}
	// With that network on the public leg, the realserver is looked for there, where it is not; and
	// back.
	wrong, err := netlink.ParseAddr(beside)
	w.must(err)
	w.must(w.Director.Addr("eth0", other))
	w.logged("realserver moved to another leg", far, "leg=eth1", "now=eth0")
	w.logged("realserver does not answer ARP", far, "leg=eth0")
	right, err := netlink.ParseAddr(other)
	w.must(err)
	eth0, err := w.Director.Netlink().LinkByName("eth0")
	w.must(err)
	w.must(w.Director.Netlink().AddrDel(eth0, right))
	w.logged("realserver moved to another leg", far, "leg=eth0", "now=eth1")
	w.eventually("it gets connections again", func() bool { return w.pages(2, 1)["web2"] == 1 })
	// Without any network it stays where it is.
	w.must(w.Director.Netlink().AddrDel(eth1, wrong))
	w.logged("realserver no longer on the network of any leg", far)
	w.pages(4, 1)
}

// The director sleeps while so much happens that the kernel cannot keep all notifications for it,
// the replacement of a leg's interface among them: it looks at everything anew.
func TestNotificationsAreLost(t *testing.T) {
	eachFamily(t, 2, notificationsAreLost, "one-arm")
}

func notificationsAreLost(t *testing.T, w *world) {
	w.serveTalks()
	w.start(w.config("arp: {announce: 0, refresh: 1h}", on("tcp", 7, w.all())))
	k := w.talk()
	lo, err := w.Director.Netlink().LinkByName("lo")
	w.must(err)
	w.must(w.director.Signal(unix.SIGSTOP))
	defer func() { _ = w.director.Signal(unix.SIGCONT) }()
	for i := range 2000 {
		w.must(w.Director.Netlink().LinkSetMTU(lo, 60000+i))
	}
	w.must(w.Director.Delete("eth0"))
	w.cable("eth0", lab.DirectorMAC, lab.DIP+"/24", lab.DIP6+"/64")
	w.must(w.director.Signal(unix.SIGCONT))
	w.logged("notifications about interfaces were lost")
	w.logged("interface present again", "eth0")
	w.must(k.say("again"))
	w.pagesByTalk(4)
}

// asks says yes to the record of a question by ARP from one address for another.
func asks(from, whom string) func(netlab.Record) bool {
	return func(r netlab.Record) bool {
		m, err := arpd.Parse(r.Data)
		return err == nil && !m.Reply && m.Sender.String() == from && m.Target.String() == whom
	}
}
