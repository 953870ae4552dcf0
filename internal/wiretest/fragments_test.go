package wiretest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"shunt/internal/lab"
)

// Datagrams of 8 KiB go out in fragments, of which only the first tells where to: all arrive, at
// one realserver for each flow, with several workers too.
func TestLargeDatagrams(t *testing.T) {
	const webs, clients, rounds, pieces = 3, 6, 10, 6
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			eachFamily(t, webs, func(t *testing.T, w *world) {
				w.serveEchoes()
				w.start(w.config(fmt.Sprintf("workers: %d", workers), on("udp", 9000, w.all())))
				served := map[string]bool{}
				for i := range clients {
					from := &net.UDPAddr{IP: net.ParseIP(w.moreClient(i))}
					c, err := w.Client.Dial(&net.Dialer{LocalAddr: from}, w.family.udp, w.family.at(w.family.vip, "9000"))
					w.must(err)
					who := ""
					for round := range rounds {
						from := w.ask(c, bytes.Repeat([]byte{byte(round)}, 8<<10))
						if who != "" && from != who {
							t.Errorf("a flow went to %s and then to %s", who, from)
						}
						who = from
					}
					served[who] = true
					w.must(c.Close())
				}
				if workers == 1 && len(served) != webs {
					t.Errorf("rr spread %d flows over %v", clients, served)
				}
				s := w.status()
				if n := s.Verdicts["forwarded"]; n != clients*rounds*pieces || s.Verdicts["fragment"] != 0 {
					t.Errorf("%d fragments were sent: %v", clients*rounds*pieces, nonzero(s.Verdicts))
				}
			})
		})
	}
}

// cut makes the frames of a packet from the client to the VIP in fragments: bytes from each of at
// to the next, which need not be in order nor without gap or overlap.
func (w *world) cut(id uint32, proto layers.IPProtocol, payload []byte, parts ...[2]int) (out [][]byte) {
	w.t.Helper()
	for _, part := range parts {
		from, to := part[0], part[1]
		more := to < len(payload)
		typ, header := w.ipHeader(proto)
		all := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: hardware(clientMAC), DstMAC: hardware(lab.DirectorMAC), EthernetType: typ}, header}
		switch h := header.(type) {
		case *layers.IPv4:
			h.Id, h.FragOffset = uint16(id), uint16(from/8)
			if more {
				h.Flags = layers.IPv4MoreFragments
			}
		case *layers.IPv6:
			h.NextHeader = layers.IPProtocolIPv6Fragment
			b := []byte{byte(proto), 0, byte(from >> 8), byte(from), byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
			if more {
				b[3] |= 1
			}
			all = append(all, gopacket.Payload(b))
		}
		b := gopacket.NewSerializeBuffer()
		all = append(all, gopacket.Payload(payload[from:to]))
		w.must(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...))
		out = append(out, bytes.Clone(b.Bytes()))
	}
	return out
}

// segment is a transport segment with its checksum.
func (w *world) segment(l gopacket.SerializableLayer, data []byte) []byte {
	w.t.Helper()
	_, ip := w.ipHeader(0)
	if s, ok := l.(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		w.must(s.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)))
	}
	b := gopacket.NewSerializeBuffer()
	w.must(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l, gopacket.Payload(data)))
	return b.Bytes()
}

// Fragments in whatever order reach one realserver, whose kernel puts them together and answers;
// those by which filters are deceived are dropped and counted.
func TestFragmentsInAnyOrder(t *testing.T) {
	eachFamily(t, 2, func(t *testing.T, w *world) {
		w.serveEchoes()
		w.start(w.config("workers: 2", on("udp", 9000, w.all()), w.http("rr")))
		c, err := w.Client.Dial(&net.Dialer{}, w.family.udp, w.family.at(w.family.vip, "9000"))
		w.must(err)
		defer c.Close()
		port := netip.MustParseAddrPort(c.LocalAddr().String()).Port()
		udp := func(data []byte) []byte {
			return w.segment(&layers.UDP{SrcPort: layers.UDPPort(port), DstPort: 9000}, data)
		}
		wire := w.wire(w.Client)
		buf := make([]byte, 1<<16)
		answered := func(data []byte) {
			t.Helper()
			w.must(c.SetDeadline(time.Now().Add(patience)))
			n, err := c.Read(buf)
			w.must(err)
			if _, got, _ := bytes.Cut(buf[:n], []byte(":")); !bytes.Equal(got, data) {
				t.Errorf("of %d bytes %d came back", len(data), len(got))
			}
		}
		a, b, d := [2]int{0, 1200}, [2]int{1200, 2400}, [2]int{2400, 3008}
		for i, order := range [][][2]int{{a, b, d}, {d, b, a}, {b, a, d}, {b, d, a}, {d, a, b}} {
			data := bytes.Repeat([]byte{byte('a' + i)}, 3000)
			for _, f := range w.cut(uint32(100+i), layers.IPProtocolUDP, udp(data), order...) {
				wire.send(f)
			}
			answered(data)
		}
		if s := w.status(); s.Verdicts["forwarded"] != 15 {
			t.Errorf("15 fragments were sent: %v", nonzero(s.Verdicts))
		}
		// Overlapping: what would overwrite the first's bytes is dropped, and so is the rest (RFC
		// 5722, RFC 3128).
		bad := udp(bytes.Repeat([]byte("x"), 3000))
		for _, f := range w.cut(200, layers.IPProtocolUDP, bad, a, [2]int{1192, 2400}, d) {
			wire.send(f)
		}
		// A first fragment without the whole TCP header (RFC 1858).
		syn := w.segment(&layers.TCP{SrcPort: layers.TCPPort(port), DstPort: 80, SYN: true, Seq: 1, Window: 65535}, make([]byte, 100))
		for _, f := range w.cut(201, layers.IPProtocolTCP, syn, [2]int{0, 16}, [2]int{16, len(syn)}) {
			wire.send(f)
		}
		w.eventually("all are counted", func() bool {
			v := w.status().Verdicts
			return v["fragment"] == 2 && v["bad transport header"] == 2 && v["forwarded"] == 16
		})
		last := []byte("and whole ones go on")
		w.ask(c, last)
	})
}
