package wiretest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"shunt/forwarder/frame"
	"shunt/internal/lab"
)

// A talk is a connection that lives on: each line that is sent comes back with the realserver's
// name before it.
type talk struct {
	net.Conn
	r   *bufio.Reader
	who string
}

// serveTalks has all realservers answer talks on port 7.
func (w *world) serveTalks() {
	w.t.Helper()
	for _, h := range w.Webs {
		ln, err := h.Listen("tcp", ":7") // of both families
		w.must(err)
		w.t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					for r := bufio.NewReader(c); ; {
						line, err := r.ReadString('\n')
						if err != nil {
							return
						}
						if _, err := io.WriteString(c, h.Name+" "+line); err != nil {
							return
						}
					}
				}()
			}
		}()
	}
}

// talk begins one.
func (w *world) talk() *talk {
	w.t.Helper()
	c, err := w.Client.Dial(&net.Dialer{Timeout: patience}, w.family.tcp, w.family.at(w.family.vip, "7"))
	w.must(err)
	w.t.Cleanup(func() { c.Close() })
	k := &talk{Conn: c, r: bufio.NewReader(c)}
	w.must(k.say("hello"))
	return k
}

// say sends a line, and checks what comes back.
func (k *talk) say(line string) error {
	if err := k.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(k, line); err != nil {
		return err
	}
	var who, back string
	if _, err := fmt.Fscanln(k.r, &who, &back); err != nil {
		return fmt.Errorf("%s: %w", k.who, err)
	}
	if back != line || k.who != "" && k.who != who {
		return fmt.Errorf("%q was answered by %s with %q", line, who, back)
	}
	k.who = who
	return nil
}

// A realserver gets another MAC while connections run, as when a network card is replaced or an
// address moves to another machine. They go on as soon as it has told by gratuitous ARP, or else
// when the director has asked again.
func TestMACChanges(t *testing.T) {
	for _, c := range []struct {
		name   string
		notify string // whether the realserver's kernel announces the change
	}{{"announced", "1"}, {"asked", "0"}} {
		t.Run(c.name, func(t *testing.T) {
			eachFamily(t, 2, func(t *testing.T, w *world) {
				w.serveTalks()
				for _, dev := range []string{"all", "eth0"} {
					w.must(w.Webs[0].Sysctl("net.ipv4.conf."+dev+".arp_notify", c.notify))
					w.must(w.Webs[0].Sysctl("net.ipv6.conf."+dev+".ndisc_notify", c.notify))
				}
				refresh := "1s"
				if c.notify == "1" {
					refresh = "1h" // so that nothing but the announcement can have told it
				}
				w.start(w.config("arp: {refresh: "+refresh+"}", on("tcp", 7, w.all())))
				talks := []*talk{w.talk(), w.talk(), w.talk(), w.talk()}
				captures := w.capture()
				const mac = "02:00:00:00:01:aa"
				w.must(w.Webs[0].SetMAC("eth0", mac))
				for _, k := range talks {
					w.must(k.say("again"))
				}
				w.logged("realserver MAC changed", w.family.rip(1), mac)
				w.eventually("the realserver is listed with its new MAC", func() bool {
					r, _ := w.realserver(1)
					return r.MAC == mac
				})
				if n := w.leg("eth0").ARP.Changed; n < 3 {
					t.Errorf("%d changes of neighbours were counted, not 2 of a new one and 1 of another MAC", n)
				}
				// With the new MAC known, nothing goes to the old one any more.
				last := ""
				for _, r := range w.records(captures["director"]) {
					f := frame.Frame{Buf: r.Data}
					if r.ToHost || len(r.Data) < frame.HeaderLen {
						continue
					}
					if m := f.Dst().String(); m == lab.MAC(1) || m == mac {
						if last == mac && m != mac && toVIPFrame(&r) {
							t.Error("a frame went to the old MAC after one to the new")
						}
						last = m
					}
				}
				if last != mac {
					t.Errorf("the last frame to web1 went to %q", last)
				}
				w.pagesByTalk(8)
			}, "one-arm")
		})
	}
}

// pagesByTalk begins n more talks and checks that both realservers have some.
func (w *world) pagesByTalk(n int) {
	w.t.Helper()
	got := map[string]int{}
	for range n {
		got[w.talk().who]++
	}
	if got["web1"] != n/2 || got["web2"] != n/2 {
		w.t.Errorf("%d new connections went to %v", n, got)
	}
}

// A realserver goes: new connections are for the other, until it comes back.
func TestRealserverGoes(t *testing.T) {
	eachFamily(t, 2, realserverGoes, "one-arm")
}

func realserverGoes(t *testing.T, w *world) {
	w.start(w.config("arp: {refresh: 1s}", w.http("rr")))
	if got := w.pages(4, 1); got["web1"] != 2 || got["web2"] != 2 {
		t.Fatalf("rr spread 4 connections as %v", got)
	}
	for _, dev := range []string{"all", "eth0"} { // otherwise IPv6 addresses go with the interface
		w.must(w.Webs[1].Sysctl("net.ipv6.conf."+dev+".keep_addr_on_down", "1"))
	}
	w.must(w.Webs[1].Down("eth0"))
	w.logged("level=WARN", "realserver does not answer ARP", w.family.rip(2), lab.MAC(2))
	if n := w.leg("eth0").ARP.Failures; n != 1 {
		t.Errorf("%d failures of realservers were counted, not 1", n)
	}
	if r, _ := w.realserver(2); r.Available || r.MAC != "" {
		t.Errorf("the director lists the realserver that went as %+v", r)
	}
	if got := w.pages(10, 2); got["web1"] != 10 {
		t.Errorf("10 connections were spread as %v, though web2 is gone", got)
	}
	w.must(w.Webs[1].Up("eth0"))
	w.must(w.Webs[1].DefaultRoute(w.family.gateway)) // it went with the interface
	w.eventually("the realserver is back", func() bool {
		r, _ := w.realserver(2)
		return r.Available && r.MAC == lab.MAC(2)
	})
	if got := w.pages(10, 2); got["web1"] != 5 || got["web2"] != 5 {
		t.Errorf("10 connections were spread as %v, though both realservers are there", got)
	}
}

// A realserver's cable is pulled while clients connect: their repeated SYNs have the director ask
// at once, and not when it would have asked anyway. The operator is told, and new connections go to
// the other realserver.
func TestCablePulled(t *testing.T) {
	eachFamily(t, 2, cablePulled, "one-arm")
}

func cablePulled(t *testing.T, w *world) {
	w.start(w.config("arp: {refresh: 1h, announce: 0}", w.http("rr")))
	w.pages(4, 1)
	for _, sw := range w.Switches() {
		if l, err := sw.Netlink().LinkByName("web2"); err == nil {
			w.must(sw.Netlink().LinkSetDown(l))
		}
	}
	pulled := time.Now()
	for range 2 { // one of the two is for the realserver that is gone
		go func() {
			if c, err := w.Client.Dial(dialer(5*time.Second), w.family.tcp, w.family.at(w.family.vip, "80")); err == nil {
				c.Close()
			}
		}()
	}
	w.logged("level=WARN", "realserver does not answer ARP", w.family.rip(2))
	t.Logf("it was noticed within %s", time.Since(pulled))
	w.warned("Realserver " + w.family.rip(2) + " does not answer")
	if got := w.pages(6, 2); got["web1"] != 6 {
		t.Errorf("6 connections were spread as %v, though web2 is gone", got)
	}
}
