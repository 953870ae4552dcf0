package wiretest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"shunt/arpd"
	"shunt/forwarder/frame"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// A tap records what a host's eth0 receives, with the VLAN tags, which the kernel takes out of the
// frames.
type tap struct {
	mu   sync.Mutex
	seen []tagged
}

// tagged is a frame without its tag. vlan is -1 if there was none.
type tagged struct {
	vlan int
	tag  [2]uint16 // TPID and TCI
	data []byte
}

func (w *world) tap(h *netlab.Host) *tap {
	w.t.Helper()
	link, err := h.Netlink().LinkByName("eth0")
	w.must(err)
	var fd int
	w.must(h.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	timeout := unix.NsecToTimeval(20e6)
	w.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	w.must(unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
	w.must(unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Protocol: unix.ETH_P_ALL << 8}))
	p := &tap{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		p.read(fd, stop)
	}()
	w.t.Cleanup(func() { close(stop); <-done; unix.Close(fd) })
	return p
}

func (p *tap) read(fd int, stop chan struct{}) {
	buf, oob := make([]byte, 4096), make([]byte, 256)
	for {
		n, oobn, _, from, err := unix.Recvmsg(fd, buf, oob, 0)
		if err != nil {
			select {
			case <-stop:
				return
			default:
				continue
			}
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		p.mu.Lock()
		vlan, tag := vlanOf(oob[:oobn])
		p.seen = append(p.seen, tagged{vlan, tag, bytes.Clone(buf[:n])})
		p.mu.Unlock()
	}
}

// vlanOf reads struct tpacket_auxdata (linux/if_packet.h).
func vlanOf(oob []byte) (vlan int, tag [2]uint16) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, tag
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20 &&
			binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
			tag = [2]uint16{binary.NativeEndian.Uint16(m.Data[18:]), binary.NativeEndian.Uint16(m.Data[16:])}
			return int(tag[1] & 0xfff), tag
		}
	}
	return -1, tag
}

// find returns the frames that keep says yes to.
func (p *tap) find(keep func(tagged) bool) (out []tagged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.seen {
		if keep(f) {
			out = append(out, f)
		}
	}
	return out
}

// syn makes the first frame of a connection from the client to the VIP, in a VLAN unless that is 0.
func (w *world) syn(vlan, port uint16) []byte {
	w.t.Helper()
	eth := &layers.Ethernet{SrcMAC: hardware(clientMAC), DstMAC: hardware(lab.DirectorMAC)}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(port), DstPort: 80, Seq: 1, SYN: true, Window: 65535}
	typ, ip := w.ipHeader(layers.IPProtocolTCP)
	w.must(tcp.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)))
	eth.EthernetType = typ
	all := []gopacket.SerializableLayer{eth, ip, tcp}
	if vlan != 0 {
		eth.EthernetType = layers.EthernetTypeDot1Q
		all = []gopacket.SerializableLayer{eth, &layers.Dot1Q{VLANIdentifier: vlan, Type: typ}, ip, tcp}
	}
	b := gopacket.NewSerializeBuffer()
	w.must(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...))
	return b.Bytes()
}

// ipHeader is the header of a packet from the client to the VIP, and its EtherType.
func (w *world) ipHeader(proto layers.IPProtocol) (layers.EthernetType, gopacket.SerializableLayer) {
	src, dst := net.ParseIP(w.family.client), net.ParseIP(w.family.vip)
	if w.family.name == "IPv6" {
		return layers.EthernetTypeIPv6, &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src, DstIP: dst}
	}
	return layers.EthernetTypeIPv4, &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: src, DstIP: dst}
}

func hardware(s string) net.HardwareAddr {
	m := mac(s)
	return m[:]
}

// A leg with a VLAN speaks it in both directions, and nothing else. No interface of any host has
// the VLAN, so this is about frames, not connections: the client and the realserver read and write
// them raw.
func TestVLAN(t *testing.T) {
	eachFamily(t, 2, vlanLeg, "one-arm")
}

func vlanLeg(t *testing.T, w *world) {
	const vlan, other = 5, 6
	vip, client := netip.MustParseAddr(w.family.vip), netip.MustParseAddr(w.family.client)
	server, back := w.tap(w.Webs[0]), w.tap(w.Client)
	wire := w.wire(w.Client)
	reals := []realserver{{address: w.family.rip(1), weight: 1, mac: lab.MAC(1)}}
	w.start(w.config("legs:\n  - {interface: eth0, vlan: 5}", w.http("rr", reals...)))

	// The announcements of the start are in the VLAN.
	w.eventually("the VIP is announced", func() bool { return len(back.find(claims(lab.DirectorMAC, vip))) > 0 })
	for _, f := range back.find(claims(lab.DirectorMAC, vip)) {
		if f.vlan != vlan {
			t.Errorf("the VIP is announced in VLAN %d", f.vlan)
		}
	}
	question := arpd.Message{SenderMAC: mac(clientMAC), Sender: client, Target: vip, Source: mac(clientMAC), Destination: arpd.Broadcast}
	answer := func(f tagged) bool {
		m, err := arpd.Parse(f.data)
		return err == nil && m.Reply && m.Sender == vip && m.Target == client
	}
	// The one that is to be answered comes last: by then the others have been passed over.
	for _, v := range []uint16{0, other, vlan} {
		wire.arp(question, v)
	}
	w.eventually("a question in the VLAN is answered", func() bool { return len(back.find(answer)) > 0 })
	for _, f := range back.find(answer) {
		if f.vlan != vlan || !bytes.Equal(f.data[6:12], hardware(lab.DirectorMAC)) {
			t.Errorf("an answer came in VLAN %d from %x", f.vlan, f.data[6:12])
		}
	}
	if n := w.leg("eth0").ARP.Answered; n != 1 {
		t.Errorf("%d questions were answered, not just the one of the VLAN", n)
	}

	for i, v := range []uint16{0, other, vlan} {
		wire.send(w.syn(v, uint16(40000+i)))
	}
	w.eventually("a frame of the VLAN is forwarded", func() bool { return len(server.find(toVIPTagged)) > 0 })
	got := server.find(toVIPTagged)
	if len(got) != 1 || got[0].vlan != vlan {
		t.Fatalf("the realserver got %+v, not just the frame of VLAN %d", got, vlan)
	}
	// But for its MACs it is the frame that was sent; the tap has taken the tag out.
	sent := w.syn(0, 40002)
	if f := got[0].data; !bytes.Equal(f[:6], hardware(lab.MAC(1))) || !bytes.Equal(f[6:12], hardware(lab.DirectorMAC)) || !bytes.Equal(f[12:len(sent)], sent[12:]) {
		t.Errorf("the realserver got %x for %x", f, sent)
	}
	w.eventually("the frames of other VLANs are counted", func() bool { return w.status().Verdicts["other VLAN"] == 2 })
}

// claims says yes to ARP messages by which a MAC claims an address.
func claims(who string, addr netip.Addr) func(tagged) bool {
	return func(f tagged) bool {
		m, err := arpd.Parse(f.data)
		return err == nil && m.Sender == addr && m.SenderMAC == mac(who)
	}
}

func toVIPTagged(f tagged) bool {
	in := frame.Frame{Buf: f.data, Wire: int32(len(f.data))}
	var p frame.Packet
	return frame.Parse(&in, &p) == frame.OK && toVIP(&p)
}

// A leg without a VLAN does not answer, or forward, what is in one.
func TestNoVLAN(t *testing.T) {
	eachFamily(t, 1, noVLAN, "one-arm")
}

func noVLAN(t *testing.T, w *world) {
	vip, client := netip.MustParseAddr(w.family.vip), netip.MustParseAddr(w.family.client)
	server, back := w.tap(w.Webs[0]), w.tap(w.Client)
	wire := w.wire(w.Client)
	w.start(w.config("", w.http("rr")))
	// A claim in a VLAN is somebody else's affair.
	wire.arp(arpd.Message{SenderMAC: mac("02:00:00:00:00:66"), Sender: vip, Target: vip, Source: mac(clientMAC), Destination: arpd.Broadcast}, 5)
	question := arpd.Message{SenderMAC: mac(clientMAC), Sender: client, Target: vip, Source: mac(clientMAC), Destination: arpd.Broadcast}
	answer := func(f tagged) bool {
		m, err := arpd.Parse(f.data)
		return err == nil && m.Reply && m.Sender == vip && m.Target == client
	}
	wire.arp(question, 5)
	wire.arp(question, 0)
	w.eventually("an untagged question is answered", func() bool { return len(back.find(answer)) > 0 })
	s := w.status()
	if legOf(&s, "eth0").ARP.Answered != 1 || legOf(&s, "eth0").ARP.Conflicts != 0 {
		t.Errorf("%d questions were answered, %d conflicts seen; not 1 and 0", legOf(&s, "eth0").ARP.Answered, legOf(&s, "eth0").ARP.Conflicts)
	}
	wire.send(w.syn(5, 40000))
	wire.send(w.syn(0, 40001))
	w.eventually("an untagged frame is forwarded", func() bool { return len(server.find(toVIPTagged)) > 0 })
	for _, f := range append(back.find(answer), server.find(toVIPTagged)...) {
		if f.vlan != -1 {
			t.Errorf("a frame came in VLAN %d", f.vlan)
		}
	}
	w.eventually("the frame of a VLAN is counted", func() bool { return w.status().Verdicts["other VLAN"] == 1 })
	// A real connection, so that the end of the one that the realserver half knows does not matter.
	w.pages(2, 1)
}

// tag puts tags before what a frame without any has, the outer one first.
func tag(f []byte, tags ...uint32) []byte {
	out := bytes.Clone(f[:12])
	for _, t := range tags {
		out = binary.BigEndian.AppendUint32(out, t)
	}
	return append(out, f[12:]...)
}

// Several VLANs of one interface, each a leg with realservers of its own, of both kinds of tags:
// each frame goes out by the leg of its realserver with that one's tag, and keeps its priority.
// What is in another VLAN, or in a VLAN within one, is not taken. No kernel here has VLAN devices:
// frames are written and read raw, and the capture of one port is looked at for tags.
func TestSeveralVLANsOfOneInterface(t *testing.T) {
	eachFamily(t, 2, severalVLANsOfOneInterface, "one-arm")
}

func severalVLANsOfOneInterface(t *testing.T, w *world) {
	vip, client := netip.MustParseAddr(w.family.vip), netip.MustParseAddr(w.family.client)
	// The second realserver, which asks and answers in VLAN 7 of a provider's tags. The director
	// has no address there: by IPv4 it asks without telling who it is, by IPv6 as the link-local
	// address of its MAC.
	second, asker, ports := netip.MustParseAddr(w.family.in(70, 12)), netip.IPv4Unspecified(), 34
	if second.Is6() {
		asker, ports = netip.MustParseAddr("fe80::ff:fe00:2"), 54
	}
	taps := []*tap{w.tap(w.Webs[0]), w.tap(w.Webs[1])}
	back, from, far := w.tap(w.Client), w.wire(w.Client), w.wire(w.Webs[1])
	reals := []realserver{{address: w.family.rip(1), weight: 1, mac: lab.MAC(1)}, {address: second.String(), weight: 1}}
	w.quiet = true
	w.start(w.config(fmt.Sprintf(`legs:
  - {interface: eth0, vlan: 5, networks: [%q]}
  - {interface: eth0, vlan: 7, vlan_protocol: 802.1ad, networks: [%q]}
  - {interface: eth0}
workers: 2
arp: {announce: 0}`, w.family.in(10, 0)+w.family.half, w.family.in(70, 0)+w.family.network), w.http("rr", reals...)))

	asked := func(f tagged) bool {
		m, err := arpd.Parse(f.data)
		return err == nil && !m.Reply && m.Target == second
	}
	w.eventually("the realserver of VLAN 7 is asked for", func() bool { return len(taps[1].find(asked)) > 0 })
	for _, f := range taps[1].find(asked) {
		if m, _ := arpd.Parse(f.data); f.tag != [2]uint16{0x88a8, 7} || m.Sender != asker {
			t.Errorf("it is asked for with tag %#x, by %s", f.tag, m.Sender)
		}
	}
	answer := arpd.Message{Reply: true, SenderMAC: mac(lab.MAC(2)), Sender: second, TargetMAC: mac(lab.DirectorMAC),
		Target: asker, Source: mac(lab.MAC(2)), Destination: mac(lab.DirectorMAC)}
	b, err := answer.Frame(0)
	w.must(err)
	far.send(tag(b, 0x8100_0007)) // of the other kind: not heard
	far.send(tag(b, 0x88a8_0006)) // another VLAN
	w.eventually("it is resolved by its answer", func() bool {
		far.send(tag(b, 0x88a8_0007))
		return w.service().Realservers[0].MAC != "" && w.service().Realservers[1].MAC != ""
	})
	if five, seven := w.leg("eth0.5").ARP, w.leg("eth0.7").ARP; five.Received != 0 || seven.Received == 0 {
		t.Errorf("ARP was received as %+v, %+v", five, seven)
	}

	// By the public leg, VLAN 5, there come connections with some priority.
	question := arpd.Message{SenderMAC: mac(clientMAC), Sender: client, Target: vip, Source: mac(clientMAC), Destination: arpd.Broadcast}
	q, err := question.Frame(0)
	w.must(err)
	for _, tags := range [][]uint32{{}, {0x8100_0007}, {0x88a8_0005}, {0x88a8_0005, 0x8100_0005}, {0x8100_a005}} {
		from.send(tag(q, tags...))
	}
	answered := func(f tagged) bool {
		m, err := arpd.Parse(f.data)
		return err == nil && m.Reply && m.Sender == vip && m.Target == client
	}
	w.eventually("a question in VLAN 5 is answered", func() bool { return len(back.find(answered)) > 0 })
	for i, tags := range [][]uint32{{0x8100_0006}, {0x88a8_0005}, {0x8100_0005, 0x8100_0009}, {0x8100_a005}, {0x8100_6005}} {
		from.send(tag(w.syn(0, uint16(40000+i)), tags...))
	}
	got := func() []tagged { return append(taps[0].find(toVIPTagged), taps[1].find(toVIPTagged)...) }
	w.eventually("the two connections of VLAN 5 are forwarded", func() bool { return len(got()) >= 2 })
	seen := map[[2]uint16]bool{}
	for _, f := range got() {
		seen[f.tag] = true
		if port := binary.BigEndian.Uint16(f.data[ports:]); port != 40003 && port != 40004 {
			t.Errorf("a frame from port %d was forwarded", port)
		}
	}
	// Which of the two has which depends on nothing but the order of the realservers; priorities 5
	// and 3 stay.
	if !seen[[2]uint16{0x8100, 0xa005}] && !seen[[2]uint16{0x8100, 0x6005}] || !seen[[2]uint16{0x88a8, 0xa007}] && !seen[[2]uint16{0x88a8, 0x6007}] || len(seen) != 2 {
		t.Errorf("the frames have the tags %v", seen)
	}
	if n := w.status().Verdicts["other VLAN"]; n != 1 { // the one with a VLAN within; the others are left to other legs
		t.Errorf("%d frames of other VLANs were counted", n)
	}
	if n := len(back.find(answered)); n != 1 {
		t.Errorf("%d questions were answered", n)
	}
	if got := w.tables(); len(got) != 1 {
		t.Errorf("the guard's tables are %v", got)
	}
}
