package wiretest

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"shunt/internal/lab"
)

// refuses checks that a connection is refused, and is not left to time out.
func (w *world) refuses(what, network, address string) {
	w.t.Helper()
	c, err := w.Client.Dial(dialer(patience/2), network, address)
	if err == nil && network == "udp4" { // which is refused only when it is spoken to
		w.must(c.SetDeadline(time.Now().Add(patience / 2)))
		_, err = c.Write([]byte("anybody?"))
		w.must(err)
		_, err = c.Read(make([]byte, 16))
	}
	if c != nil {
		c.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		w.t.Errorf("%s: %v, not a refusal", what, err)
	}
}

// The VIP answers as a host would: to ping, at ports that no service has, and when no realserver takes anything.
func TestAnswers(t *testing.T) {
	for _, topology := range lab.Topologies {
		t.Run(topology, func(t *testing.T) {
			w := build(t, topology, 2)
			for _, h := range w.Webs {
				c, err := h.ListenPacket("udp4", lab.VIP+":9000")
				w.must(err)
				t.Cleanup(func() { c.Close() })
				go echo(c, h.Name)
			}
			w.start(w.config("", w.http("rr"), on("udp", 9000, w.all())))
			for i := range 3 {
				w.ping(i, 56)
			}
			w.ping(3, 1400)
			if n := w.status().Verdicts["echo answered"]; n != 4 {
				t.Errorf("%d pings were counted, not 4", n)
			}
			w.refuses("a TCP port without a service", "tcp4", lab.VIP+":81")
			w.refuses("a UDP port without a service", "udp4", lab.VIP+":81")
			w.pages(2, 1)

			idle := w.all()
			for i := range idle {
				idle[i].weight = 0
			}
			w.reload(w.config("", w.http("rr", idle...), on("udp", 9000, idle)))
			w.refuses("a TCP service whose realservers all have weight 0", "tcp4", lab.VIP+":80")
			w.refuses("a UDP service whose realservers all have weight 0", "udp4", lab.VIP+":9000")
			if n := w.status().Verdicts["no destination"]; n < 2 {
				t.Errorf("%d frames without a destination were counted", n)
			}
			w.reload(w.config("", w.http("rr"), on("udp", 9000, w.all())))
			w.pages(2, 1)
		})
	}
}

// ping sends an echo request to the VIP and waits for the answer.
func (w *world) ping(seq, size int) {
	w.t.Helper()
	c, err := w.Client.ListenPacket("ip4:icmp", "0.0.0.0")
	w.must(err)
	defer c.Close()
	ask := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 4711, Seq: seq, Data: make([]byte, size)}}
	b, err := ask.Marshal(nil)
	w.must(err)
	_, err = c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(lab.VIP)})
	w.must(err)
	w.must(c.SetDeadline(time.Now().Add(patience)))
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		w.must(err)
		m, err := icmp.ParseMessage(1, buf[:n])
		w.must(err)
		if body, ok := m.Body.(*icmp.Echo); ok && m.Type == ipv4.ICMPTypeEchoReply && body.ID == 4711 && body.Seq == seq {
			if from.String() != lab.VIP || len(body.Data) != size {
				w.t.Errorf("%d bytes came back from %s, not %d from the VIP", len(body.Data), from, size)
			}
			return
		}
	}
}
