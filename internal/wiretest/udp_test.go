package wiretest

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"
)

// Datagrams of all sizes reach the realservers, which answer from the VIP, past the director. A
// flow stays with its realserver, and flows are spread.
func TestUDP(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		w.serveEchoes()
		w.start(w.config("", on("udp", 9000, w.all())))
		const flows, rounds = 20, 50
		served := map[string]int{}
		datagrams := 0
		for flow := range flows {
			c, err := w.Client.Dial(&net.Dialer{}, w.family.udp, w.family.at(w.family.vip, "9000"))
			w.must(err)
			who := ""
			for round := range rounds {
				// 0 to 1400 bytes, the ends included.
				datagram := bytes.Repeat([]byte{byte(round)}, (flow*rounds+round)*1400/(flows*rounds-1))
				from := w.ask(c, datagram)
				if who != "" && from != who {
					t.Fatalf("flow %d went to %s and then to %s", flow, who, from)
				}
				who = from
				datagrams++
			}
			served[who]++
			defer c.Close() // not before, or a later flow might have the same port, and be this one
		}
		if served["web1"] != flows/2 || served["web2"] != flows/2 {
			t.Errorf("rr spread %d flows as %v", flows, served)
		}
		if n := w.status().Verdicts["forwarded"]; n != uint64(datagrams) {
			t.Errorf("%d datagrams were sent and answered, %d frames forwarded", datagrams, n)
		}
	})
}

// serveEchoes has all realservers echo datagrams to port 9000 of the VIP.
func (w *world) serveEchoes() {
	w.t.Helper()
	for _, h := range w.Webs {
		c, err := h.ListenPacket(w.family.udp, w.family.at(w.family.vip, "9000"))
		w.must(err)
		w.t.Cleanup(func() { c.Close() })
		go echo(c, h.Name)
	}
}

// echo answers each datagram with the host's name, a colon and the datagram.
func echo(c net.PacketConn, name string) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(fmt.Appendf(nil, "%s:%s", name, buf[:n]), from)
	}
}

// ask sends a datagram, and returns who echoed it.
func (w *world) ask(c net.Conn, datagram []byte) string {
	w.t.Helper()
	w.must(c.SetDeadline(time.Now().Add(patience)))
	_, err := c.Write(datagram)
	w.must(err)
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	w.must(err)
	name, rest, ok := bytes.Cut(buf[:n], []byte(":"))
	if !ok || !bytes.Equal(rest, datagram) {
		w.t.Fatalf("a datagram of %d bytes came back as %d bytes", len(datagram), len(rest))
	}
	return string(name)
}
