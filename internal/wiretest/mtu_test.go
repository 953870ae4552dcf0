package wiretest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// setMTU sets the MTU of interfaces: host, interface, host, interface ...
func (w *world) setMTU(mtu int, ends ...any) {
	w.t.Helper()
	for i := 0; i < len(ends); i += 2 {
		w.must(ends[i].(*netlab.Host).SetMTU(ends[i+1].(string), mtu))
	}
}

// The leg of the realservers takes less than the client sends: the VIP tells the client so, whether
// it sends super-frames or not, and an upload arrives whole. What the client lets be fragmented is
// counted.
func TestLegOfSmallerMTU(t *testing.T) {
	eachFamily(t, 1, func(t *testing.T, w *world) {
		const mtu = 1350
		w.setMTU(mtu, w.Director, "eth1")
		captures := w.capture()
		w.start(w.config("", w.http("rr"), on("udp", 9000, w.all())))
		w.upload(8 << 20)
		s := w.status()
		if s.Verdicts["fragmentation needed"] == 0 || s.Verdicts["above MTU"] != 0 || s.Verdicts["send: too big"] != 0 {
			t.Errorf("the client was not told, or not in time: %v", nonzero(s.Verdicts))
		}
		told := 0
		for _, r := range w.records(captures["client"]) {
			f := frame.Frame{Buf: r.Data, Wire: int32(r.Length)}
			var p frame.Packet
			if frame.Parse(&f, &p) == frame.OK && r.ToHost && tooBig(&p) && p.Src.Netip().String() == w.family.vip {
				told++
			}
		}
		if told == 0 {
			t.Error("the client got no such answer from the VIP")
		}
		t.Logf("%d answers", told)

		// The limit of the leg is now known to the client's kernel, which lets nobody send more
		// with DF.
		c, err := w.Client.Dial(&net.Dialer{}, w.family.udp, w.family.at(w.family.vip, "9000"))
		w.must(err)
		defer c.Close()
		w.must(dontFragment(c, w.family, true))
		if _, err := c.Write(make([]byte, mtu-w.family.head-8+1)); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("a datagram above the MTU: %v", err)
		}
		if w.family.name == "IPv6" {
			return // there is no packet that may be fragmented on its way
		}
		w.must(dontFragment(c, w.family, false))
		_, err = c.Write(make([]byte, 1400))
		w.must(err)
		w.eventually("the datagram is counted", func() bool { return w.status().Verdicts["above MTU"] == 1 })
	}, "two-arm")
}

// nonzero is what of the verdicts there is to be shown.
func nonzero(verdicts map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for v, n := range verdicts {
		if n != 0 {
			out[v] = n
		}
	}
	return out
}

// tooBig reports whether a packet is the message that path-MTU discovery lives on.
func tooBig(p *frame.Packet) bool {
	return p.Proto == frame.ICMP && p.ICMPType == 3 && p.ICMPCode == 4 || p.Proto == frame.ICMPv6 && p.ICMPType == 2
}

// dontFragment has a UDP socket send with DF, also what is longer than the path's MTU as the kernel
// knows it; or without.
func dontFragment(c net.Conn, f family, on bool) error {
	if !on { // ignores what ICMP says, and sets no DF
		return sockopt(c, f, unix.IP_MTU_DISCOVER, unix.IPV6_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE)
	}
	return sockopt(c, f, unix.IP_MTU_DISCOVER, unix.IPV6_MTU_DISCOVER, unix.IP_PMTUDISC_DO) // of the same number in IPv6
}

// Jumbo frames pass like others: in one piece, whatever the slot of a ring holds.
func TestJumbo(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		const mtu = 9000
		w.must(w.SetMTU(mtu))
		for _, h := range w.Webs {
			c, err := h.ListenPacket(w.family.udp, w.family.at(w.family.vip, "9000"))
			w.must(err)
			defer c.Close()
			go echo(c, h.Name)
		}
		w.start(w.config("", on("udp", 9000, w.all()), w.http("rr")))
		for i := range 10 {
			c, err := w.Client.Dial(&net.Dialer{}, w.family.udp, w.family.at(w.family.vip, "9000"))
			w.must(err)
			w.must(dontFragment(c, w.family, true))
			w.ask(c, make([]byte, mtu-w.family.head-8-len("web1:")-i))
			w.must(c.Close())
		}
		w.pages(4, 1)
		s := w.status()
		if s.Verdicts["fragmentation needed"]+s.Verdicts["above MTU"]+s.Verdicts["truncated"]+s.Verdicts["send: too big"] != 0 {
			t.Errorf("%v", nonzero(s.Verdicts))
		}
	})
}

// downloads has a realserver give as many bytes as it is asked for.
func downloads(mux *http.ServeMux) {
	mux.HandleFunc("GET /big", func(rw http.ResponseWriter, r *http.Request) {
		size, _ := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
		rw.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		_, _ = io.CopyBuffer(onlyWriter{rw}, io.LimitReader(rand.NewChaCha8([32]byte{2}), size), make([]byte, 256<<10))
	})
}

// download fetches size bytes from the VIP, and checks them.
func (w *world) download(browser *http.Client, size int64) error {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, fmt.Sprintf("%sbig?size=%d", w.url, size), nil)
	if err != nil {
		return err
	}
	resp, err := browser.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	want := rand.NewChaCha8([32]byte{2})
	got, expected := make([]byte, 64<<10), make([]byte, 64<<10)
	total := int64(0)
	for {
		n, err := io.ReadFull(resp.Body, got)
		_, _ = want.Read(expected[:n])
		if string(got[:n]) != string(expected[:n]) {
			return fmt.Errorf("the download differs behind byte %d", total)
		}
		total += int64(n)
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if total != size {
		return fmt.Errorf("%d of %d bytes came", total, size)
	}
	return nil
}

// Path-MTU discovery from end to end: behind the router, on the way from the realservers to the
// clients, is a network of a smaller MTU. What the router says of that goes to the VIP, and so to
// the director, which hands each message to the very realserver that the connection is with, among
// several and with several workers; else downloads would stand still.
func TestPathMTU(t *testing.T) {
	const webs, clients, mtu = 3, 8, 1300
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			eachFamily(t, webs, func(t *testing.T, w *world) {
				w.setMTU(mtu, w.Hosts["router"], "eth0")
				captures := w.capture()
				w.start(w.config(fmt.Sprintf("workers: %d", workers), w.http("rr")))
				for i := range clients {
					addr := w.moreClient(i)
					for range webs {
						w.must(w.download(w.browse(addr), 1<<20))
					}
				}
				s := w.status()
				if s.Verdicts["ICMP without flow"] != 0 || s.Verdicts["bad transport header"] != 0 {
					t.Errorf("%v", nonzero(s.Verdicts))
				}
				messages := 0
				for i := range w.Webs {
					messages += w.checkErrors(captures[fmt.Sprintf("web%d", i+1)], i+1)
				}
				if messages < webs*clients { // each realserver learns of each client
					t.Errorf("only %d messages reached the realservers, of %d clients and %d realservers", messages, clients, webs)
				}
			}, "two-arm")
		})
	}
}

// moreClient gives the client one more address.
func (w *world) moreClient(i int) string {
	w.t.Helper()
	addr, bits := fmt.Sprintf("192.168.10.%d", 21+i), 24
	if w.family.name == "IPv6" {
		addr, bits = fmt.Sprintf("2001:db8:10::21:%x", i), 64
	}
	w.must(w.Client.Addr("eth0", fmt.Sprintf("%s/%d", addr, bits)))
	return addr
}

// checkErrors checks of all ICMP errors that reached a realserver that they are about its own
// connections, and counts them.
func (w *world) checkErrors(c *netlab.Capture, web int) (n int) {
	w.t.Helper()
	own := map[frame.Tuple]bool{}
	records := w.records(c)
	for pass := range 2 {
		for _, r := range records {
			f := frame.Frame{Buf: r.Data, Wire: int32(r.Length)}
			var p, inner frame.Packet
			if problem := frame.Parse(&f, &p); problem != frame.OK {
				continue
			}
			switch {
			case pass == 0 && !r.ToHost && p.Proto == frame.TCP:
				own[frame.Tuple{Src: p.Dst, Dst: p.Src, SrcPort: p.DstPort, DstPort: p.SrcPort, Proto: p.Proto}] = true
			case pass == 1 && r.ToHost && tooBig(&p) && f.Dst().String() == lab.MAC(web):
				n++
				if problem := frame.ParseInner(&f, &p, &inner); problem != frame.OK || !own[inner.Tuple] {
					w.t.Errorf("web%d got an error about %v, which it does not have (%v)", web, inner.Tuple, problem)
				}
			}
		}
	}
	return n
}

// The director knows nothing of a flow, but its scheduler goes by a hash: an error about it reaches
// the realserver of its client all the same. Here the realserver speaks first, as after a restart
// of a director that keeps nothing.
func TestPathMTUByHash(t *testing.T) {
	for _, scheduler := range []string{"sh", "mh"} {
		t.Run(scheduler, func(t *testing.T) {
			eachFamily(t, 3, func(t *testing.T, w *world) {
				const mtu = 1300
				w.setMTU(mtu, w.Hosts["router"], "eth0")
				servers := map[string]net.PacketConn{}
				for _, h := range w.Webs {
					c, err := h.ListenPacket(w.family.udp, w.family.at(w.family.vip, "9000"))
					w.must(err)
					defer c.Close()
					servers[h.Name] = c
					go echo(c, h.Name)
				}
				svc := on("udp", 9000, w.all())
				svc.scheduler = scheduler
				w.start(w.config("workers: 2\nstate_dir: off", svc))
				c, err := w.Client.Dial(&net.Dialer{}, w.family.udp, w.family.at(w.family.vip, "9000"))
				w.must(err)
				defer c.Close()
				who := w.ask(c, []byte("who?"))
				w.stop()
				w.start(w.config("workers: 2\nstate_dir: off", svc))
				if n := w.status().Flows; n != 0 {
					t.Fatalf("%d flows after a restart", n)
				}
				server := servers[who].(*net.UDPConn)
				w.must(dontFragment(server, w.family, true))
				to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.LocalAddr().String()))
				large := make([]byte, mtu-w.family.head-8+1)
				w.eventually("the realserver knows the path's MTU", func() bool {
					_, err := server.WriteTo(large, to)
					if err != nil && !errors.Is(err, unix.EMSGSIZE) {
						t.Fatal(err)
					}
					return err != nil
				})
				_, err = server.WriteTo(large[1:], to)
				w.must(err)
				w.must(c.SetDeadline(time.Now().Add(patience)))
				n, err := c.Read(make([]byte, 2048))
				if err != nil || n != len(large)-1 {
					t.Errorf("%d bytes came, %v", n, err)
				}
				if n := w.status().Flows; n != 0 {
					t.Errorf("the error made %d flows", n)
				}
			}, "two-arm")
		})
	}
}
