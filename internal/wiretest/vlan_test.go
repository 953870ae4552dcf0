package wiretest

import (
	"bytes"
	"encoding/binary"
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

// A tap records what a host's eth0 receives, with the VLAN tags, which the kernel takes out of the frames.
type tap struct {
	mu   sync.Mutex
	seen []tagged
}

// tagged is a frame without its tag. vlan is -1 if there was none.
type tagged struct {
	vlan int
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
		p.seen = append(p.seen, tagged{vlanOf(oob[:oobn]), bytes.Clone(buf[:n])})
		p.mu.Unlock()
	}
}

// vlanOf reads struct tpacket_auxdata (linux/if_packet.h).
func vlanOf(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20 &&
			binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
			return int(binary.NativeEndian.Uint16(m.Data[16:]) & 0xfff)
		}
	}
	return -1
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

// A leg with a VLAN speaks it in both directions, and nothing else. No interface of any host has the VLAN, so this is about
// frames, not connections: the client and the realserver read and write them raw.
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
	if n := w.status().Counters["arp.eth0.answered"]; n != 1 {
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
	if s.Counters["arp.eth0.answered"] != 1 || s.Counters["arp.eth0.conflicts"] != 0 {
		t.Errorf("%d questions were answered, %d conflicts seen; not 1 and 0", s.Counters["arp.eth0.answered"], s.Counters["arp.eth0.conflicts"])
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
