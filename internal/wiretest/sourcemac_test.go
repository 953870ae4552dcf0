package wiretest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"shunt/forwarder/frame"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// clientMAC is that of the laboratory's client.
const clientMAC = "02:00:00:00:00:10"

// privateMAC is that of the director's leg on the realservers' side, with two arms.
const privateMAC = "02:00:00:00:00:03"

// fromTo counts IP frames by their MAC addresses.
func fromTo(records []netlab.Record, keep func(r *netlab.Record, p *frame.Packet) bool) map[string]int {
	out := map[string]int{}
	for i := range records {
		f := frame.Frame{Buf: records[i].Data, Wire: int32(records[i].Length)}
		var p frame.Packet
		if frame.Parse(&f, &p) == frame.OK && keep(&records[i], &p) {
			out[fmt.Sprintf("%s > %s", f.Src(), f.Dst())]++
		}
	}
	return out
}

func toVIP(p *frame.Packet) bool   { return isVIP(p.Dst) && !discovery(p) }
func fromVIP(p *frame.Packet) bool { return isVIP(p.Src) && !discovery(p) }

// discovery reports whether a packet is of neighbour discovery, which is to IPv6 what ARP is to
// IPv4.
func discovery(p *frame.Packet) bool {
	return p.Proto == frame.ICMPv6 && p.ICMPType >= 133 && p.ICMPType <= 137
}

// isVIP reports whether an address is the usual VIP of either family.
func isVIP(a frame.Addr) bool {
	return a.Netip() == netip.MustParseAddr(lab.VIP) || a.Netip() == netip.MustParseAddr(lab.VIP6)
}

// toVIPFrame reports whether a frame that was recorded is for a VIP.
func toVIPFrame(r *netlab.Record) bool {
	f := frame.Frame{Buf: r.Data, Wire: int32(r.Length)}
	var p frame.Packet
	return frame.Parse(&f, &p) == frame.OK && toVIP(&p)
}

// With one leg, frames that keep the client's MAC teach the switch that the client is behind the
// director's port: the realserver's answers go there, and no connection comes about. That is why
// source_mac: auto is the default.
func TestPreservedMACMisleadsSwitch(t *testing.T) {
	eachFamily(t, 1, preservedMACMisleadsSwitch, "one-arm")
}

func preservedMACMisleadsSwitch(t *testing.T, w *world) {
	// Nothing but the client's own frames may make anybody send: not a question for the gateway's
	// MAC, whose answer would teach the switch better for a moment, and not a second SYN-ACK by a
	// timer, which may come in such a moment.
	w.neighbour(w.Webs[0], w.family.gateway, clientMAC)
	w.must(w.Webs[0].Sysctl("net.ipv4.tcp_synack_retries", "0"))
	w.start(w.config("source_mac: preserve", w.http("rr")))
	captures := w.capture()
	c, err := w.Client.Dial(&net.Dialer{Timeout: 2 * time.Second}, w.family.tcp, w.family.at(w.family.vip, "80"))
	var ne net.Error
	if err == nil {
		c.Close()
		t.Error("a connection came about")
	} else if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("the connection failed by %v, not by a time-out", err)
	}
	var astray map[string]int
	w.eventually("an answer to the client goes to the director's port", func() bool {
		astray = fromTo(captures["director"].Records(), func(r *netlab.Record, p *frame.Packet) bool { return r.ToHost && fromVIP(p) })
		return astray[lab.MAC(1)+" > "+clientMAC] > 0
	})
	sent := fromTo(w.records(captures["director"]), func(r *netlab.Record, p *frame.Packet) bool { return !r.ToHost && toVIP(p) })
	if n := sent[clientMAC+" > "+lab.MAC(1)]; n == 0 || len(sent) != 1 {
		t.Errorf("the director sent %v, not frames that keep the client's MAC", sent)
	}
	got := fromTo(w.records(captures["client"]), func(r *netlab.Record, p *frame.Packet) bool { return r.ToHost && fromVIP(p) })
	if len(got) != 0 {
		t.Errorf("the client got %v", got)
	}
	t.Logf("the director sent %v; to its port went %v", sent, astray)
	// The other policies work on the same network, as soon as they are in force.
	for _, policy := range []string{"own", "auto"} {
		w.reload(w.config("source_mac: "+policy, w.http("rr")))
		captures := w.capture()
		w.pages(5, 1)
		sent := fromTo(w.records(captures["director"]), func(r *netlab.Record, p *frame.Packet) bool { return !r.ToHost && toVIP(p) })
		if n := sent[lab.DirectorMAC+" > "+lab.MAC(1)]; n == 0 || len(sent) != 1 {
			t.Errorf("source_mac: %s: the director sent %v, not frames from its own MAC", policy, sent)
		}
	}
}

// With two legs the client's MAC can stay, and does so unless told otherwise.
func TestSourceMACTwoArms(t *testing.T) {
	eachFamily(t, 1, sourceMACTwoArms, "two-arm")
}

func sourceMACTwoArms(t *testing.T, w *world) {
	w.start(w.config("", w.http("rr")))
	for policy, mac := range map[string]string{"auto": clientMAC, "preserve": clientMAC, "own": privateMAC} {
		w.reload(w.config("source_mac: "+policy, w.http("rr")))
		captures := w.capture()
		w.pages(5, 1)
		got := fromTo(w.records(captures["web1"]), func(r *netlab.Record, p *frame.Packet) bool { return r.ToHost && toVIP(p) })
		if n := got[mac+" > "+lab.MAC(1)]; n == 0 || len(got) != 1 {
			t.Errorf("source_mac: %s: the realserver got %v, not frames from %s", policy, got, mac)
		}
	}
}

// neighbour tells a host's kernel the MAC of another's address once and for all.
func (w *world) neighbour(h *netlab.Host, addr, mac string) {
	w.t.Helper()
	link, err := h.Netlink().LinkByName("eth0")
	w.must(err)
	hw, err := net.ParseMAC(mac)
	w.must(err)
	w.must(h.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: w.family.number(), State: netlink.NUD_PERMANENT, IP: net.ParseIP(addr), HardwareAddr: hw,
	}))
}
