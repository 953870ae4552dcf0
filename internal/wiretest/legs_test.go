package wiretest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"shunt/arpd"
	"shunt/forwarder/frame"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// The director's own interface gets another MAC while connections run: everybody is told, and they
// go on.
func TestOwnMACChanges(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		w.serveTalks()
		w.start(w.config("arp: {announce: 0}", on("tcp", 7, w.all())))
		talks := []*talk{w.talk(), w.talk()}
		const own = "02:00:00:00:00:bb"
		w.must(w.Director.SetMAC("eth0", own))
		w.logged("interface MAC changed", "eth0", own, lab.DirectorMAC)
		for _, k := range talks {
			w.must(k.say("again"))
		}
		w.eventually("the client knows the new MAC", func() bool { return w.believes(w.Client, w.family.vip) == own })
		captures := w.capture()
		w.pagesByTalk(4)
		// What has the director's own MAC as its source has the new one.
		for _, c := range captures {
			old := fromTo(w.records(c), func(r *netlab.Record, _ *frame.Packet) bool {
				f := frame.Frame{Buf: r.Data}
				return f.Src() == mac(lab.DirectorMAC) || f.Dst() == mac(lab.DirectorMAC)
			})
			if len(old) != 0 {
				t.Errorf("frames with the old MAC: %v", old)
			}
		}
	})
}

// A leg goes down and comes up again, as when its cable is pulled: nothing ends, and all goes on
// afterwards.
func TestLegGoesDown(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		w.serveTalks()
		w.start(w.config("arp: {announce: 0}", on("tcp", 7, w.all())))
		talks := []*talk{w.talk(), w.talk()}
		legs := []string{"eth0"}
		if w.Topology == "two-arm" {
			legs = append(legs, "eth1")
		}
		for _, leg := range legs {
			w.must(w.Director.Down(leg))
			w.logged("level=WARN", "interface down", leg)
			answered := make(chan error, len(talks))
			for _, k := range talks {
				go func() { answered <- k.say("anybody?") }()
			}
			if leg == "eth1" { // frames still come in, and have nowhere to go
				w.eventually("frames are lost to the leg that is down", func() bool { return w.status().Verdicts["send: leg down"] > 0 })
			}
			w.must(w.Director.Up(leg))
			w.logged("level=INFO", "interface up", leg)
			for range talks {
				w.must(<-answered)
			}
		}
		w.pagesByTalk(4)
	})
}

// A leg needs no address of its own: realservers are asked for all the same, and answer.
func TestLegWithoutAddresses(t *testing.T) {
	eachFamily(t, 2, legWithoutAddresses, "one-arm")
}

func legWithoutAddresses(t *testing.T, w *world) {
	link, err := w.Director.Netlink().LinkByName("eth0")
	w.must(err)
	addrs, err := w.Director.Netlink().AddrList(link, netlink.FAMILY_ALL)
	w.must(err)
	for _, a := range addrs {
		w.must(w.Director.Netlink().AddrDel(link, &a))
	}
	w.start(w.config(fmt.Sprintf("legs: [{interface: eth0, networks: [%q]}]\narp: {refresh: 1s}", w.family.in(10, 0)+w.family.network), w.http("rr")))
	if got := w.pages(4, 1); got["web1"] != 2 || got["web2"] != 2 {
		t.Errorf("rr spread 4 connections as %v", got)
	}
	before := w.leg("eth0").ARP
	w.eventually("they have answered again", func() bool {
		c := w.leg("eth0").ARP
		return c.Learnt >= before.Learnt+2
	})
	if n := w.leg("eth0").ARP.Failures; n != 0 {
		t.Errorf("%d failures of realservers were counted", n)
	}
}

// A VIP comes by a reload, and goes by the next: it is served and answered for in between only.
func TestVIPComesAndGoes(t *testing.T) {
	eachFamily(t, 2, vipComesAndGoes, "one-arm")
}

func vipComesAndGoes(t *testing.T, w *world) {
	second, bits := "192.168.10.101", "/32"
	if w.family.name == "IPv6" {
		second, bits = "2001:db8:10::101", "/128"
	}
	for _, h := range w.Webs {
		w.must(h.Addr("lo", second+bits))
	}
	one := w.config("guard: auto", w.http("rr"))
	more := w.http("rr")
	more.vip = second
	both := w.config("guard: auto", w.http("rr"), more)
	w.start(one)
	back, wire := w.tap(w.Client), w.wire(w.Client)
	client := netip.MustParseAddr(w.family.client)
	// answers reports whether the director answers for the second VIP: it asks for that first, and
	// then for the other one.
	answers := func() bool {
		w.t.Helper()
		count := func(vip string) int {
			return len(back.find(func(f tagged) bool {
				m, err := arpd.Parse(f.data)
				// Announcements, which by IPv6 are replies too, are for all.
				return err == nil && m.Reply && m.Sender == netip.MustParseAddr(vip) && m.Target == client && m.SenderMAC == mac(lab.DirectorMAC)
			}))
		}
		before, marker := count(second), count(w.family.vip)
		for _, vip := range []string{second, w.family.vip} {
			wire.arp(arpd.Message{
				SenderMAC: mac(clientMAC), Sender: client, Target: netip.MustParseAddr(vip), Source: mac(clientMAC), Destination: arpd.Broadcast,
			}, 0)
		}
		w.eventually("the first VIP is answered for", func() bool { return count(w.family.vip) > marker })
		return count(second) > before
	}
	for range 2 {
		if answers() {
			t.Error("the director answers for a VIP that it does not have")
		}
		w.reload(both)
		w.eventually("the new VIP is announced", func() bool {
			return len(back.find(claims(lab.DirectorMAC, netip.MustParseAddr(second)))) > 0
		})
		w.url = "http://" + w.family.at(second, "80") + "/"
		if got := w.pages(4, 1); got["web1"] != 2 || got["web2"] != 2 {
			t.Errorf("rr spread 4 connections to the new VIP as %v", got)
		}
		w.url = "http://" + w.family.at(w.family.vip, "80") + "/"
		w.pages(4, 1)
		if !answers() {
			t.Error("the director does not answer for the new VIP")
		}
		w.reload(one)
	}
	if answers() {
		t.Error("the director answers for a VIP that it has no more")
	}
	w.pages(4, 1)
}
