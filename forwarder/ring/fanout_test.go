package ring

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// shard runs the program for n workers as the kernel does: on what follows the Ethernet header and
// the outer tag, which the kernel took out, with the type that is then the frame's.
func shard(t reporter, data []byte, n int) int {
	t.Helper()
	raw, err := shardProgram(n)
	if err != nil {
		t.Fatal(err)
	}
	typ, rest := uint32(data[12])<<8|uint32(data[13]), data[14:]
	m := newMachine(t, raw, extensions{bpf.ExtProto: typ})
	defer m.close()
	got, err := m.vm.Run(rest)
	if err != nil {
		t.Fatal(err)
	}
	// The kernel's interpreter or compiler must agree, as far as a result below the length of the
	// frame can tell.
	if _, err := m.run(rest); err != nil {
		t.Fatal(err)
	}
	return got
}

// icmpError is an ICMP error that quotes the start of a packet.
func icmpError(typ byte, quoted []byte) []byte {
	return append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, quoted...)
}

// behind is an IPv6 packet with extension headers, each longer than the one before it.
func behind(packet []byte, headers ...byte) []byte {
	if len(headers) == 0 {
		return packet
	}
	proto := packet[6]
	var chain []byte
	for i, h := range headers {
		next := proto
		if i+1 < len(headers) {
			next = headers[i+1]
		}
		header := make([]byte, 8*(i+1))
		header[0], header[1] = next, byte(i)
		if h == 44 {
			header = header[:8]
		}
		chain = append(chain, header...)
	}
	b := append(bytes.Clone(packet[:40]), append(chain, packet[40:]...)...)
	b[6] = headers[0]
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

func TestShardFrames(t *testing.T) {
	const n = 7
	client4, vip4, router4 := netip.MustParseAddr("198.51.100.23"), netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.0.2.1")
	client6, vip6, router6 := netip.MustParseAddr("2001:db8:23::1"), netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("2001:db8:fffe::2")
	w := func(a netip.Addr) int { return Shard(frame.AddrFrom(a), n) }
	// The expectations below mean nothing where the shards of both are the same.
	if w(client4) == w(router4) || w(client6) == w(router6) || w(client4) == 0 || w(client6) == 0 || w(router4) == 0 || w(router6) == 0 {
		t.Fatalf("choose other addresses: %d %d %d %d", w(client4), w(router4), w(client6), w(router6))
	}
	// What the client could not take: on its way from the VIP to the client.
	out4 := ip(vip4, client4, frame.TCP, 0, 0, make([]byte, 8))
	out4options := ip(vip4, client4, frame.TCP, 3, 0, make([]byte, 8))
	out6 := ip(vip6, client6, frame.TCP, 0, 0, make([]byte, 8))
	err4 := icmpError(3, out4)
	for _, c := range []struct {
		name string
		data []byte
		want int
	}{
		{"TCP", etherIP(ip(client4, vip4, frame.TCP, 0, 0, make([]byte, 20))), w(client4)},
		{"TCP of IPv6", etherIP(ip(client6, vip6, frame.TCP, 0, 0, make([]byte, 20))), w(client6)},
		{"options", etherIP(ip(client4, vip4, frame.TCP, 10, 0, make([]byte, 20))), w(client4)},
		{"first fragment", etherIP(ip(client4, vip4, frame.UDP, 0, 0x2000, make([]byte, 20))), w(client4)},
		{"last fragment", etherIP(ip(client4, vip4, frame.UDP, 0, 0x0010, make([]byte, 20))), w(client4)},
		{"echo", etherIP(ip(client4, vip4, frame.ICMP, 0, 0, icmpError(8, make([]byte, 30)))), w(client4)},
		{"echo reply", etherIP(ip(client4, vip4, frame.ICMP, 0, 0, icmpError(0, make([]byte, 30)))), w(client4)},
		{"echo of IPv6", etherIP(ip(client6, vip6, frame.ICMPv6, 0, 0, icmpError(128, make([]byte, 60)))), w(client6)},
		{"unreachable", etherIP(ip(router4, vip4, frame.ICMP, 0, 0, err4)), w(client4)},
		{"source quench", etherIP(ip(router4, vip4, frame.ICMP, 0, 0, icmpError(4, out4))), w(client4)},
		{"redirect", etherIP(ip(router4, vip4, frame.ICMP, 0, 0, icmpError(5, out4))), w(client4)},
		{"time exceeded", etherIP(ip(router4, vip4, frame.ICMP, 0, 0, icmpError(11, out4))), w(client4)},
		{"parameter problem", etherIP(ip(router4, vip4, frame.ICMP, 0, 0, icmpError(12, out4))), w(client4)},
		{"no error by its type", etherIP(ip(router4, vip4, frame.ICMP, 0, 0, icmpError(13, out4))), w(router4)},
		{"error with options", etherIP(ip(router4, vip4, frame.ICMP, 10, 0, err4)), w(client4)},
		{"error about options", etherIP(ip(router4, vip4, frame.ICMP, 1, 0, icmpError(11, out4options))), w(client4)},
		{"fragment of an error", etherIP(ip(router4, vip4, frame.ICMP, 0, 0x2000, err4)), w(router4)},
		{"a later fragment of an error", etherIP(ip(router4, vip4, frame.ICMP, 0, 0x0008, err4)), w(router4)},
		{"do not fragment", etherIP(ip(router4, vip4, frame.ICMP, 0, 0x4000, err4)), w(client4)},
		{"too big", etherIP(ip(router6, vip6, frame.ICMPv6, 0, 0, icmpError(2, out6))), w(client6)},
		{"unreachable of IPv6", etherIP(ip(router6, vip6, frame.ICMPv6, 0, 0, icmpError(1, out6))), w(client6)},
		{"the last type of an error of IPv6", etherIP(ip(router6, vip6, frame.ICMPv6, 0, 0, icmpError(127, out6))), w(client6)},
		{"an error behind an extension header", etherIP(behind(ip(router6, vip6, frame.ICMPv6, 0, 0, icmpError(1, out6)), 0)), w(client6)},
		{"an error behind four", etherIP(behind(ip(router6, vip6, frame.ICMPv6, 0, 0, icmpError(1, out6)), 0, 60, 43, 60)), w(client6)},
		{"an error behind five", etherIP(behind(ip(router6, vip6, frame.ICMPv6, 0, 0, icmpError(1, out6)), 0, 60, 43, 60, 60)), w(router6)},
		{"an error in a fragment of IPv6", etherIP(behind(ip(router6, vip6, frame.ICMPv6, 0, 0, icmpError(1, out6)), 0, 44)), w(router6)},
		{"an echo behind extension headers", etherIP(behind(ip(client6, vip6, frame.ICMPv6, 0, 0, icmpError(128, out6)), 0, 60)), w(client6)},
		{"TCP behind extension headers", etherIP(behind(ip(client6, vip6, frame.TCP, 0, 0, make([]byte, 20)), 60, 60)), w(client6)},
		{"half an extension header", etherIP(behind(ip(client6, vip6, frame.TCP, 0, 0, nil), 60)[:40+1]), 0},
		{"a tag", etherIP(ip(client4, vip4, frame.TCP, 0, 0, make([]byte, 20)), tag(5)), w(client4)},
		{"two tags", etherIP(ip(client4, vip4, frame.TCP, 0, 0, make([]byte, 20)), dtag(5), tag(6)), w(client4)},
		{"a tag, IPv6", etherIP(ip(client6, vip6, frame.TCP, 0, 0, make([]byte, 20)), tag(5)), w(client6)},
		{"two tags, IPv6", etherIP(ip(client6, vip6, frame.TCP, 0, 0, make([]byte, 20)), tag(5), tag(6)), w(client6)},
		{"an error behind a tag", etherIP(ip(router4, vip4, frame.ICMP, 2, 0, err4), tag(6)), w(client4)},
		{"an error behind two tags, IPv6", etherIP(ip(router6, vip6, frame.ICMPv6, 0, 0, icmpError(3, out6)), dtag(6), tag(5)), w(client6)},
		{"three tags", etherIP(ip(client4, vip4, frame.TCP, 0, 0, make([]byte, 20)), tag(5), tag(6), tag(7)), 0},
		{"ARP", ether(macA, macB, frame.EtherTypeARP, make([]byte, 46)), 0},
		{"short IPv4", etherIP(ip(client4, vip4, frame.TCP, 0, 0, nil)[:15]), 0},
		{"short IPv6", etherIP(ip(client6, vip6, frame.TCP, 0, 0, nil)[:23]), 0},
		{"short error", etherIP(ip(router4, vip4, frame.ICMP, 0, 0, err4[:8+19])), 0},
		{"nothing behind a tag", ether(macA, macB, frame.EtherTypeVLAN, []byte{0, 5}), 0},
		{"nothing", ether(macA, macB, frame.EtherTypeIPv4, nil), 0},
	} {
		if got := shard(t, c.data, n); got != c.want {
			t.Errorf("%s: worker %d, want %d", c.name, got, c.want)
		}
	}
}

// The kernel's program and Shard agree for all flows, and so do both for the ICMP errors of a flow.
func TestShardModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 256).Draw(t, "workers")
		v6 := rapid.Bool().Draw(t, "IPv6")
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			if v6 {
				// An IPv4 address that is mapped into IPv6 must not be on the wire (RFC 4942, 2.2),
				// and Shard could not tell it from the IPv4 address.
				return a6(rapid.Uint64Min(1).Draw(t, "hi"), rapid.Uint64().Draw(t, "lo"))
			}
			return a4(rapid.Uint32().Draw(t, "address"))
		})
		client, vip, router := addr.Draw(t, "client"), addr.Draw(t, "vip"), addr.Draw(t, "router")
		options := rapid.IntRange(0, 10)
		var tags [][4]byte
		for i := range rapid.IntRange(0, 2).Draw(t, "tags") {
			tags = append(tags, [][4]byte{tag(uint16(i)), dtag(uint16(i))}[rapid.IntRange(0, 1).Draw(t, "kind")])
		}
		payload := rapid.SliceOfN(rapid.Byte(), 8, 64).Draw(t, "payload")
		proto := rapid.SampledFrom([]frame.Proto{frame.TCP, frame.UDP, frame.SCTP, 50}).Draw(t, "proto")
		frag := rapid.SampledFrom([]uint16{0, 0x4000, 0x2000, 0x2001, 0x1fff}).Draw(t, "fragment")
		want := Shard(frame.AddrFrom(client), n)
		if want < 0 || want >= n {
			t.Fatalf("Shard gives %d of %d", want, n)
		}
		most := extensionHeaders
		if !v6 {
			most = 0
		}
		headers := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 43, 60}), 0, most)
		flow := behind(ip(client, vip, proto, options.Draw(t, "options"), frag, payload), headers.Draw(t, "extension headers")...)
		if got := shard(t, etherIP(flow, tags...), n); got != want {
			t.Fatalf("worker %d, want %d", got, want)
		}
		answer := ip(vip, client, proto, options.Draw(t, "quoted options"), 0, payload)
		icmp, typ := frame.ICMP, rapid.SampledFrom([]byte{3, 4, 5, 11, 12})
		if v6 {
			icmp, typ = frame.ICMPv6, rapid.ByteRange(0, 127)
		}
		problem := behind(ip(router, vip, icmp, options.Draw(t, "error's options"), 0, icmpError(typ.Draw(t, "type"), answer)),
			headers.Draw(t, "error's extension headers")...)
		if got := shard(t, etherIP(problem, tags...), n); got != want {
			t.Fatalf("an ICMP error about it: worker %d, want %d", got, want)
		}
	})
}

// Whatever the bytes are, the program ends with a worker that there is.
func TestShardHostile(t *testing.T) {
	raw, err := shardProgram(5)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []uint32{frame.EtherTypeIPv4, frame.EtherTypeIPv6, frame.EtherTypeVLAN, frame.EtherTypeQinQ, 0} {
		m := newMachine(t, raw, extensions{bpf.ExtProto: typ})
		r := rand.New(rand.NewPCG(3, uint64(typ)))
		for range 5000 {
			b := make([]byte, r.IntN(120))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			n, err := m.vm.Run(b)
			if err != nil || n < 0 || n > 4 {
				t.Fatalf("type %#x, % x: %d, %v", typ, b, n, err)
			}
			if _, err := m.run(b); err != nil {
				t.Fatal(err)
			}
		}
		m.close()
	}
}

func TestShardOne(t *testing.T) {
	for _, n := range []int{-1, 0, 1} {
		if got := Shard(frame.AddrFrom4(0xc0000201), n); got != 0 {
			t.Errorf("%d workers: %d", n, got)
		}
	}
}

// Clients come in blocks of neighbours, and no worker is to have less than half of its share, or
// more than twice of it.
func TestShardSpreads(t *testing.T) {
	for _, n := range []int{2, 3, 4, 8, 16, 64} {
		for name, client := range map[string]func(i uint64) frame.Addr{
			"neighbours": func(i uint64) frame.Addr { return frame.AddrFrom4(0xcb007100 + uint32(i)) },
			"every 256":  func(i uint64) frame.Addr { return frame.AddrFrom4(0x0a000001 + uint32(i)<<8) },
			"hosts":      func(i uint64) frame.Addr { return frame.Addr{Hi: 0x20010db8_00000000, Lo: i} },
			"networks":   func(i uint64) frame.Addr { return frame.Addr{Hi: 0x20010db8_00000000 + i<<8, Lo: 1} },
		} {
			const clients = 1 << 14
			count := make([]int, n)
			for i := range uint64(clients) {
				count[Shard(client(i), n)]++
			}
			for w, c := range count {
				if c*2 < clients/n || c > clients/n*2 {
					t.Errorf("%s: worker %d of %d has %d of %d clients", name, w, n, c, clients)
				}
			}
		}
	}
}

// Engines of one group divide the clients as Shard says, in the order in which they were opened, on
// all legs.
func TestFanout(t *testing.T) {
	wires := newLab(t, 2)
	const workers = 3
	var engines []*Engine
	for range workers {
		e, err := Open(Config{Legs: []LegConfig{wires[0].leg(0), wires[1].leg(1)}, FanoutGroup: 77, FanoutWorkers: workers})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close(); e.res.release() })
		engines = append(engines, e)
	}
	for _, e := range engines {
		if err := e.SetVIPs([]netip.Addr{vip4, vip6}); err != nil {
			t.Fatal(err)
		}
	}
	rounds := func() {
		t.Helper()
		var want [workers]int
		for i := range 100 {
			for _, w := range wires {
				for _, b := range [][]byte{
					ip(a4(0xc6336400+uint32(i)), vip4, frame.UDP, i%11, 0, udp(1, 2, nil)),
					ip(a6(0x20010db8_00000000, uint64(i)), vip6, frame.UDP, 0, 0, udp(1, 2, nil)),
					ip(netip.MustParseAddr("192.0.2.1"), vip4, frame.ICMP, i%11, 0,
						icmpError(3, ip(vip4, a4(0xc6336400+uint32(i)), frame.UDP, 0, 0, udp(2, 1, nil)))),
				} {
					var tags [][4]byte
					if i%3 > 0 {
						tags = append(tags, dtag(9))
					}
					if i%3 > 1 {
						tags = append(tags, tag(8))
					}
					w.send(nil, w.frame(b, tags...))
				}
			}
			want[Shard(frame.AddrFrom4(0xc6336400+uint32(i)), workers)] += 4
			want[Shard(frame.Addr{Hi: 0x20010db8_00000000, Lo: uint64(i)}, workers)] += 2
		}
		for k, e := range engines {
			for _, f := range next(t, e, want[k]) {
				var p, inner frame.Packet
				if problem := frame.Parse(&f, &p); problem != frame.OK && problem != frame.BadL4 {
					t.Fatalf("worker %d: %v in % x", k, problem, f.Data())
				}
				client := p.Src
				if p.Proto == frame.ICMP {
					if problem := frame.ParseInner(&f, &p, &inner); problem != frame.OK {
						t.Fatalf("worker %d: %v in the packet of % x", k, problem, f.Data())
					}
					client = inner.Src
				}
				if n := Shard(client, workers); n != k {
					t.Fatalf("worker %d has a frame of worker %d", k, n)
				}
			}
			e.Wake()
			if n, _, err := e.Next(make([]frame.Frame, 1)); n != 0 || err != nil {
				t.Errorf("worker %d: %d frames more, %v", k, n, err)
			}
		}
	}
	rounds()
	// The order outlives an interface that goes down.
	if err := netlink.LinkSetDown(wires[0].link); err != nil {
		t.Fatal(err)
	}
	wires[0].up()
	rounds()
	// And it is there again after one that was deleted is replaced in all engines.
	wires[0].renew()
	for _, e := range engines {
		take(t, e, 0)
	}
	for _, e := range engines {
		give(t, e, wires[0].leg(0))
	}
	for _, e := range engines {
		if err := e.SetVIPs([]netip.Addr{vip4, vip6}); err != nil {
			t.Fatal(err)
		}
	}
	rounds()

	// A group is of those who want the same of it.
	if e, err := Open(Config{Legs: []LegConfig{wires[1].leg(0)}, FanoutGroup: 77, FanoutWorkers: workers}); err == nil {
		_ = e.Close()
		t.Error("a leg joined the group of another")
	} else if !strings.Contains(err.Error(), "group 77") {
		t.Error(err)
	}
}
