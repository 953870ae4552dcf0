package wiretest

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"shunt/arpd"
	"shunt/internal/lab"
)

// forged makes a datagram to the VIP that looks as if it came from others.
func (w *world) forged(srcMAC string, src string, port uint16) []byte {
	w.t.Helper()
	eth := &layers.Ethernet{SrcMAC: hardware(srcMAC), DstMAC: hardware(lab.DirectorMAC), EthernetType: layers.EthernetTypeIPv4}
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(lab.VIP)
	var network gopacket.NetworkLayer
	var ip gopacket.SerializableLayer
	if from.Is4() {
		v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
		network, ip = v4, v4
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: from.AsSlice(), DstIP: net.ParseIP(lab.VIP6)}
		network, ip = v6, v6
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(port), DstPort: 80, Seq: 1, SYN: true, Window: 65535}
	w.must(tcp.SetNetworkLayerForChecksum(network))
	b := gopacket.NewSerializeBuffer()
	w.must(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp))
	return b.Bytes()
}

// Frames that nobody can honestly have sent to a VIP are dropped and counted, and no realserver
// sees them: loops, sources that are no host's, and those that name the VIP itself (a "land"
// attack), by both families.
func TestForgedFrames(t *testing.T) {
	for _, topology := range lab.Topologies {
		t.Run(topology, func(t *testing.T) {
			w := build(t, topology, 2)
			w.must(w.EnableIPv6())
			// A switch that learns would send nothing back to the port where it believes the
			// destination.
			for _, name := range []string{"client", "web1"} {
				w.unlearning(name)
			}
			six := service{proto: "tcp", port: 80, scheduler: "rr", vip: lab.VIP6, reals: []realserver{{address: lab.RIP6(1), weight: 1}, {address: lab.RIP6(2), weight: 1}}}
			w.start(w.config("answer: true", w.http("rr"), six))
			wire := w.wire(w.Client)
			taps := []*tap{w.tap(w.Webs[0]), w.tap(w.Webs[1])}
			w.eventually("all realservers are resolved", func() bool {
				for _, s := range w.services() {
					for _, r := range s.Realservers {
						if r.MAC == "" {
							return false
						}
					}
				}
				return true
			})
			for _, c := range []struct {
				verdict     string
				mac, source string
			}{
				{"loop guard", lab.DirectorMAC, lab.ClientIP},
				{"loop guard", lab.MAC(1), lab.ClientIP},
				{"loop guard", lab.MAC(2), lab.ClientIP6},
				{"bad source", clientMAC, lab.VIP}, // land
				{"bad source", clientMAC, lab.VIP6},
				{"bad source", clientMAC, "255.255.255.255"},
				{"bad source", clientMAC, "224.0.0.1"},
				{"bad source", clientMAC, "239.255.255.250"},
				{"bad source", clientMAC, "127.0.0.1"},
				{"bad source", clientMAC, "0.0.0.0"},
				{"bad source", clientMAC, "ff02::1"},
				{"bad source", clientMAC, "::1"},
				{"bad source", clientMAC, "::"},
			} {
				before := w.status().Verdicts[c.verdict]
				wire.send(w.forged(c.mac, c.source, 40000))
				w.eventually("a frame from "+c.source+" at "+c.mac+" is counted as "+c.verdict, func() bool {
					return w.status().Verdicts[c.verdict] == before+1
				})
			}
			wire.send(w.forged(clientMAC, lab.ClientIP, 40001))
			w.eventually("an honest frame is forwarded", func() bool { return w.status().Verdicts["forwarded"] > 0 })
			honest := func(f tagged) bool { return f.data[34] == 40001>>8 && f.data[35] == 40001&0xff } // the client's kernel resets it
			got := func() []tagged { return append(taps[0].find(toVIPTagged), taps[1].find(toVIPTagged)...) }
			w.eventually("a realserver has it", func() bool { return slices.ContainsFunc(got(), honest) })
			for _, f := range got() {
				if !honest(f) {
					t.Errorf("a realserver got %x", f.data)
				}
			}
		})
	}
}

// unlearning has a port of its switch learn no MACs.
func (w *world) unlearning(port string) {
	w.t.Helper()
	for _, sw := range w.Switches() {
		if l, err := sw.Netlink().LinkByName(port); err == nil {
			w.must(sw.Netlink().LinkSetLearning(l, false))
			return
		}
	}
	w.t.Fatalf("there is no port %s", port)
}

// An announcement that nobody asked for does not move a realserver: the director asks, and its
// answer counts. With learn_gratuitous it is believed at once.
func TestForgedAnnouncement(t *testing.T) {
	const thief = "02:00:00:00:00:77"
	for _, learn := range []string{"false", "true"} {
		test := func(t *testing.T, w *world) {
			rip, vip := netip.MustParseAddr(w.family.rip(1)), netip.MustParseAddr(w.family.vip)
			w.start(w.config("arp: {announce: 0, refresh: 1h, learn_gratuitous: "+learn+"}", w.http("rr")))
			w.pages(1, 1)
			wire := w.wire(w.Client)
			before := w.leg("eth0").ARP
			for _, reply := range []bool{false, true} { // both kinds of announcement
				m := arpd.Message{Reply: reply, SenderMAC: mac(thief), Sender: rip, Target: rip, Source: mac(thief), Destination: arpd.Broadcast}
				if rip.Is6() && !reply { // by IPv6 the other kind is a question that tells who asks
					m.Target = vip
				}
				wire.arp(m, 0)
			}
			if learn == "true" {
				w.logged("realserver MAC changed", w.family.rip(1), "mac="+thief)
				return
			}
			w.eventually("the director has asked, and heard the answer", func() bool {
				c := w.leg("eth0").ARP
				return c.Asked > before.Asked && c.Learnt >= before.Learnt+3
			})
			if r, _ := w.realserver(1); r.MAC != lab.MAC(1) {
				t.Errorf("the realserver's MAC is %s", r.MAC)
			}
			w.pages(2, 1)
		}
		t.Run("learn_gratuitous: "+learn, func(t *testing.T) { eachFamily(t, 1, test, "one-arm") })
	}
}

// Somebody has the director ask for a realserver, and answers before the realserver and after it.
// It is not diverted, and the operator is told.
func TestForgedAnswers(t *testing.T) {
	const thief = "02:00:00:00:00:77"
	eachFamily(t, 1, func(t *testing.T, w *world) {
		w.start(w.config("arp: {announce: 0, refresh: 1h}", w.http("rr")))
		w.pages(1, 1)
		wire := w.wire(w.Client)
		rip, dip := netip.MustParseAddr(w.family.rip(1)), netip.MustParseAddr(w.family.dip)
		announced := arpd.Message{Reply: true, SenderMAC: mac(thief), Sender: rip, Target: rip, Source: mac(thief), Destination: arpd.Broadcast}
		answer := arpd.Message{Reply: true, SenderMAC: mac(thief), Sender: rip, TargetMAC: mac(lab.DirectorMAC), Target: dip, Source: mac(thief),
			Destination: mac(lab.DirectorMAC)}
		for range 20 {
			wire.arp(announced, 0)
			for range 20 {
				wire.arp(answer, 0)
				time.Sleep(5 * time.Millisecond)
			}
			if r, _ := w.realserver(1); r.MAC != lab.MAC(1) {
				t.Fatalf("the realserver's MAC is %s", r.MAC)
			}
		}
		w.logged("level=ERROR", "two hosts answer ARP for the realserver", w.family.rip(1), "other="+thief)
		w.warned("Two hosts answer for " + w.family.rip(1))
		if n := w.leg("eth0").ARP.Disputes; n == 0 {
			t.Error("no dispute is counted")
		}
		w.pages(2, 1)
	}, "one-arm")
}

// A flood of questions for the VIP is answered at a bounded rate; the director still forwards, and
// still resolves.
func TestARPFlood(t *testing.T) {
	eachFamily(t, 2, aRPFlood, "one-arm")
}

func aRPFlood(t *testing.T, w *world) {
	w.start(w.config("arp: {announce: 0, refresh: 1s}", w.http("rr")))
	wire := w.wire(w.Client)
	question := arpd.Message{SenderMAC: mac(clientMAC), Sender: netip.MustParseAddr(w.family.client), Target: netip.MustParseAddr(w.family.vip),
		Source: mac(clientMAC), Destination: arpd.Broadcast}
	b, err := question.Frame(0)
	w.must(err)
	const n = 100_000 // at some ten thousand a second
	before := w.leg("eth0").ARP
	answered, began := before.Answered, time.Now()
	wire.flood(b, n)
	w.eventually("all of the flood is read or dropped", func() bool {
		c := w.leg("eth0").ARP
		return c.Received+c.Dropped >= n
	})
	c := w.leg("eth0").ARP
	answered = c.Answered - answered
	if most := 200 + uint64(1000*time.Since(began).Seconds()); c.Limited == 0 || answered > most { // so many at once, and a second
		t.Errorf("of %d questions %d were answered, not %d at most, and %d not", n, answered, most, c.Limited)
	}
	t.Logf("%d questions: %d read, %d dropped unread, %d answered, %d too many", n, c.Received, c.Dropped, c.Answered, c.Limited)
	// The realservers are asked every second, and their answers are not lost in the flood: but for
	// one that is under way, none.
	if asked, learnt := c.Asked-before.Asked, c.Learnt-before.Learnt; learnt+2 < asked {
		t.Errorf("of %d questions for realservers in the flood %d were answered", asked, learnt)
	}
	if got := w.pages(10, 2); got["web1"] != 5 || got["web2"] != 5 {
		t.Errorf("afterwards 10 connections were spread as %v", got)
	}
	// And a flood of claims is not one of log lines.
	vip := netip.MustParseAddr(w.family.vip)
	const claims = 2000
	excess := w.leg("eth0").ARP.Excess
	for i := range claims {
		m := arpd.Message{Reply: vip.Is6(), SenderMAC: mac(clientMAC), Sender: vip, Target: vip, Source: mac(clientMAC), Destination: arpd.Broadcast}
		m.SenderMAC[4], m.SenderMAC[5] = byte(i>>8)+0x40, byte(i)
		wire.arp(m, 0)
	}
	w.eventually("the claims are counted", func() bool {
		c := w.leg("eth0").ARP
		return c.Conflicts+c.Dropped+c.Excess >= claims+excess
	})
	w.logged("too many hosts claim VIPs to log each one")
	if n := lines(w.director.Log(), "another host claims the VIP"); n > 64 {
		t.Errorf("%d claims were told one by one", n)
	}
	w.pages(4, 1)
}

// A realserver that answers for the VIP is found on the private leg too, where nobody asks but the
// director, and by IPv6.
func TestRealserverAnswersOnPrivateLeg(t *testing.T) {
	w := build(t, "two-arm", 2)
	w.must(w.EnableIPv6())
	six := service{proto: "tcp", port: 80, scheduler: "rr", vip: lab.VIP6, reals: []realserver{{address: lab.RIP6(1), weight: 1}, {address: lab.RIP6(2), weight: 1}}}
	w.start(w.config("arp: {announce: 0, watch: 1s}", w.http("rr"), six))
	probed := func() uint64 { return w.leg("eth1").ARP.Probed }
	w.eventually("the private leg is asked, more than once", func() bool { return probed() >= 4 })
	if one, other := w.leg("eth1").ARP, w.leg("eth0").ARP; one.Conflicts+other.Conflicts+one.Announced != 0 {
		t.Fatalf("on a network without any conflict: %+v, %+v", one, other)
	}
	w.must(w.Webs[1].Sysctl("net.ipv4.conf.all.arp_ignore", "0"))
	w.logged("level=ERROR", "a realserver answers ARP for the VIP", "vip="+lab.VIP, lab.MAC(2), "realserver="+lab.RIP(2), "interface=eth1")
	w.must(w.Webs[1].Sysctl("net.ipv4.conf.all.arp_ignore", "1"))
	w.must(w.Webs[0].Addr("eth0", lab.VIP6+"/128"))
	w.logged("level=ERROR", "a realserver answers neighbour solicitations for the VIP", "vip="+lab.VIP6, lab.MAC(1), "realserver="+lab.RIP6(1), "interface=eth1")
	if n := w.leg("eth1").ARP.Conflicts; n < 2 {
		t.Errorf("%d conflicts were counted", n)
	}
	// It says nothing of the VIP itself there.
	captures := w.capture()
	before := probed()
	w.eventually("it is asked on", func() bool { return probed() >= before+4 })
	for _, r := range w.records(captures["director-private"]) {
		if m, err := arpd.Parse(r.Data); err == nil && !r.ToHost && m.Sender == netip.MustParseAddr(lab.VIP) {
			t.Errorf("on the private leg the director says %+v", m)
		}
	}
}

// lines counts the lines with a word.
func lines(text, word string) (n int) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			n++
		}
	}
	return n
}
