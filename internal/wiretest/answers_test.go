package wiretest

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// refuses checks that a connection is refused, and is not left to time out.
func (w *world) refuses(what, network, address string) {
	w.t.Helper()
	c, err := w.Client.Dial(dialer(patience/2), network, address)
	if err == nil && network == w.family.udp { // which is refused only when it is spoken to
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

// The VIP answers as a host would: to ping, at ports that no service has, and when no realserver
// takes anything.
func TestAnswers(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		w.serveEchoes()
		w.start(w.config("", w.http("rr"), on("udp", 9000, w.all())))
		for i := range 3 {
			w.ping(i, 56)
		}
		w.ping(3, 1400)
		if n := w.status().Verdicts["echo answered"]; n != 4 {
			t.Errorf("%d pings were counted, not 4", n)
		}
		w.refuses("a TCP port without a service", w.family.tcp, w.family.at(w.family.vip, "81"))
		w.refuses("a UDP port without a service", w.family.udp, w.family.at(w.family.vip, "81"))
		w.pages(2, 1)

		idle := w.all()
		for i := range idle {
			idle[i].weight = 0
		}
		w.reload(w.config("", w.http("rr", idle...), on("udp", 9000, idle)))
		w.refuses("a TCP service whose realservers all have weight 0", w.family.tcp, w.family.at(w.family.vip, "80"))
		w.refuses("a UDP service whose realservers all have weight 0", w.family.udp, w.family.at(w.family.vip, "9000"))
		if n := w.status().Verdicts["no destination"]; n < 2 {
			t.Errorf("%d frames without a destination were counted", n)
		}
		w.reload(w.config("", w.http("rr"), on("udp", 9000, w.all())))
		w.pages(2, 1)
	})
}

// traceroute sends datagrams of growing TTL, to ports that nobody has, and waits for who says that
// they came too far. The director, which forwards frames unchanged, is no hop: the first probe
// reaches the VIP, and a service's realserver too.
func TestTraceroute(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		w.serveEchoes()
		w.start(w.config("", on("udp", 9000, w.all())))
		probe := func(ttl int, port string) (net.Conn, error) {
			c, err := w.Client.Dial(dialer(patience), w.family.udp, w.family.at(w.family.vip, port))
			w.must(err)
			w.must(sockopt(c, w.family, unix.IP_TTL, unix.IPV6_UNICAST_HOPS, ttl))
			w.must(c.SetDeadline(time.Now().Add(patience)))
			_, err = c.Write([]byte("probe"))
			w.must(err)
			_, err = c.Read(make([]byte, 64))
			return c, err
		}
		for ttl := 1; ttl <= 3; ttl++ {
			c, err := probe(ttl, strconv.Itoa(33433+ttl))
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("TTL %d: %v, not port unreachable", ttl, err)
			}
			c.Close()
			if c, err = probe(ttl, "9000"); err != nil {
				t.Errorf("TTL %d to a service: %v", ttl, err)
			}
			c.Close()
		}
	})
}

// A realserver looks for the way to a client of its: what a router says of datagrams whose TTL is
// used up is for the VIP, and so for the director, which hands it to that realserver.
func TestTracerouteFromRealserver(t *testing.T) {
	eachFamily(t, 3, func(t *testing.T, w *world) {
		servers := map[string]*net.UDPConn{}
		for _, h := range w.Webs {
			c, err := h.ListenPacket(w.family.udp, w.family.at(w.family.vip, "9000"))
			w.must(err)
			defer c.Close()
			servers[h.Name] = c.(*net.UDPConn)
			go echo(c, h.Name)
		}
		w.start(w.config("workers: 2", on("udp", 9000, w.all())))
		for range w.Webs {
			c, err := w.Client.Dial(dialer(patience), w.family.udp, w.family.at(w.family.vip, "9000"))
			w.must(err)
			defer c.Close()
			server := servers[w.ask(c, []byte("who?"))]
			w.must(sockopt(server, w.family, unix.IP_RECVERR, unix.IPV6_RECVERR, 1))
			w.must(sockopt(server, w.family, unix.IP_TTL, unix.IPV6_UNICAST_HOPS, 1))
			before := w.status().Verdicts["forwarded"]
			_, err = server.WriteTo([]byte("probe"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.LocalAddr().String())))
			w.must(err)
			w.eventually("the router's answer is forwarded", func() bool { return w.status().Verdicts["forwarded"] == before+1 })
			w.eventually("the realserver has got it", func() bool { return pendingError(server) })
			w.must(sockopt(server, w.family, unix.IP_TTL, unix.IPV6_UNICAST_HOPS, 64))
		}
		for name, server := range servers {
			if pendingError(server) {
				t.Errorf("%s got an error about a flow of another's", name)
			}
		}
	}, "two-arm")
}

// pendingError takes an error from the queue of a socket, and reports whether there was one.
func pendingError(c *net.UDPConn) (found bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		_, _, _, _, err := unix.Recvmsg(int(fd), make([]byte, 256), make([]byte, 512), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		found = err == nil
	})
	return found
}

// sockopt sets an option of a socket that each family has by another name.
func sockopt(c net.Conn, f family, v4, v6, value int) error {
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	level, name := unix.IPPROTO_IP, v4
	if f.name == ipv6Family.name {
		level, name = unix.IPPROTO_IPV6, v6
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, name, value) })
	return errors.Join(err, failed)
}

// ping sends an echo request to the VIP and waits for the answer.
func (w *world) ping(seq, size int) {
	w.t.Helper()
	network, any, number := "ip4:icmp", "0.0.0.0", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	var pseudo []byte
	if w.family.name == "IPv6" {
		network, any, number = "ip6:ipv6-icmp", "::", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		pseudo = icmp.IPv6PseudoHeader(net.ParseIP(w.family.client), net.ParseIP(w.family.vip))
	}
	c, err := w.Client.ListenPacket(network, any)
	w.must(err)
	defer c.Close()
	ask := icmp.Message{Type: request, Body: &icmp.Echo{ID: 4711, Seq: seq, Data: make([]byte, size)}}
	b, err := ask.Marshal(pseudo)
	w.must(err)
	_, err = c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(w.family.vip)})
	w.must(err)
	w.must(c.SetDeadline(time.Now().Add(patience)))
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		w.must(err)
		m, err := icmp.ParseMessage(number, buf[:n])
		w.must(err)
		if body, ok := m.Body.(*icmp.Echo); ok && m.Type == reply && body.ID == 4711 && body.Seq == seq {
			if from.String() != w.family.vip || len(body.Data) != size {
				w.t.Errorf("%d bytes came back from %s, not %d from the VIP", len(body.Data), from, size)
			}
			return
		}
	}
}
