package ring

import (
	"bytes"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// vnet writes a virtio_net_hdr.
func vnet(flags, gso byte, hdrLen, gsoSize, start, offset uint16) []byte {
	h := make([]byte, vnetLen)
	h[vnetFlags], h[vnetGSOType] = flags, gso
	hostOrder.PutUint16(h[vnetHdrLen:], hdrLen)
	hostOrder.PutUint16(h[vnetGSOSize:], gsoSize)
	hostOrder.PutUint16(h[vnetCsumStart:], start)
	hostOrder.PutUint16(h[vnetCsumOffset:], offset)
	return h
}

const (
	gsoUDP   = 3 // VIRTIO_NET_HDR_GSO_UDP
	gsoUDPL4 = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
)

var (
	client4 = netip.MustParseAddr("198.51.100.23")
	vip4    = netip.MustParseAddr("203.0.113.10")
	client6 = netip.MustParseAddr("2001:db8:23::1")
	vip6    = netip.MustParseAddr("2001:db8::10")
)

// tcp is a TCP segment with words of options; its checksum is that of the pseudo-header alone, as
// where the device is to finish it (CHECKSUM_PARTIAL).
func tcp(src, dst netip.Addr, options int, payload []byte) []byte {
	b := make([]byte, 20+4*options)
	b[1], b[3] = 80, 90
	b[12] = byte(len(b)/4) << 4
	b[13] = frame.ACK
	for i := 20; i < len(b); i++ {
		b[i] = 1
	}
	n := uint32(len(b) + len(payload))
	s := sum(sum(n+uint32(frame.TCP), src.AsSlice()), dst.AsSlice())
	b[16], b[17] = byte(s>>8), byte(s)
	return append(b, payload...)
}

func TestSegmentLen(t *testing.T) {
	big := make([]byte, 20_000)
	tcp4 := etherIP(ip(client4, vip4, frame.TCP, 0, 0, tcp(client4, vip4, 0, big)))
	options4 := etherIP(ip(client4, vip4, frame.TCP, 2, 0, tcp(client4, vip4, 3, big)))
	tcp6 := etherIP(ip(client6, vip6, frame.TCP, 0, 0, tcp(client6, vip6, 3, big)))
	udp4 := etherIP(ip(client4, vip4, frame.UDP, 0, 0, udp(1, 2, big)))
	tagged := etherIP(ip(client4, vip4, frame.TCP, 0, 0, tcp(client4, vip4, 0, big)), dtag(5), tag(6))
	short := etherIP(ip(client4, vip4, frame.TCP, 0, 0, tcp(client4, vip4, 0, big[:100])))
	const need = flagNeedsCsum
	for _, c := range []struct {
		name string
		head []byte
		data []byte
		want int
	}{
		{"no header", nil, tcp4, 0},
		{"no offload", vnet(0, 0, 0, 0, 0, 0), tcp4, 0},
		{"checksum only", vnet(need, 0, 0, 0, 34, 16), tcp4, 0},
		{"ECN alone is no kind of super-frame", vnet(need, gsoECN, 54, 1460, 34, 16), tcp4, 0},
		{"TCP", vnet(need, gsoTCP4, 54, 1460, 34, 16), tcp4, 1500},
		{"TCP with ECN", vnet(need, gsoTCP4|gsoECN, 54, 1460, 34, 16), tcp4, 1500},
		{"TCP with options of both", vnet(need, gsoTCP4, 74, 1440, 42, 16), options4, 28 + 32 + 1440},
		{"TCP of IPv6", vnet(need, gsoTCP6, 86, 1428, 54, 16), tcp6, 1500},
		{"jumbo", vnet(need, gsoTCP4, 54, 8960, 34, 16), tcp4, 9000},
		{"UDP", vnet(need, gsoUDPL4, 42, 1472, 34, 6), udp4, 1500},
		{"behind two tags", vnet(need, gsoTCP4, 62, 1460, 42, 16), tagged, 1500},
		{"one segment, no longer than the packet", vnet(need, gsoTCP4, 54, 1460, 34, 16), short, 140},
		{"gso_size 0", vnet(need, gsoTCP4, 54, 0, 34, 16), tcp4, 40},
		{"largest gso_size", vnet(need, gsoTCP4, 54, 0xffff, 34, 16), tcp4, 20_040},
		// What the kernel will find out for itself, or refuse.
		{"no checksum asked for", vnet(0, gsoTCP4, 54, 1460, 34, 16), tcp4, 0},
		{"transport header before the IP header", vnet(need, gsoTCP4, 54, 1460, 13, 16), tcp4, 0},
		{"transport header behind the end", vnet(need, gsoTCP4, 54, 1460, 0xffff, 16), tcp4, 0},
		{"transport header cut", vnet(need, gsoTCP4, 54, 1460, 34, 16), tcp4[:34+12], 0},
		{"transport header just there", vnet(need, gsoTCP4, 54, 1460, 34, 16), tcp4[:34+13], 33},
		{"tags and no more", vnet(need, gsoTCP4, 54, 1460, 34, 16), tagged[:16], 0},
		{"a runt", vnet(need, gsoTCP4, 54, 1460, 34, 16), tcp4[:13], 0},
	} {
		f := frame.Frame{Buf: append(bytes.Clone(c.head), c.data...), Head: uint8(len(c.head))}
		if got := segmentLen(&f); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Frames are not to be trusted: no header may make segmentLen read beyond the frame.
func TestSegmentLenHostile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data")
		if len(data) >= 14 {
			typ := rapid.SampledFrom([]uint16{frame.EtherTypeIPv4, frame.EtherTypeVLAN, frame.EtherTypeQinQ}).Draw(t, "type")
			data[12], data[13] = byte(typ>>8), byte(typ)
		}
		head := vnet(rapid.Byte().Draw(t, "flags"), rapid.Byte().Draw(t, "gso"), rapid.Uint16().Draw(t, "hdr_len"),
			rapid.Uint16().Draw(t, "size"), rapid.Uint16Range(0, 110).Draw(t, "start"), 0)
		f := frame.Frame{Buf: append(head, data...), Head: vnetLen}
		if n := segmentLen(&f); n < 0 || n > max(len(data)-frame.HeaderLen, 0) {
			t.Fatalf("%d of %d bytes", n, len(data))
		}
	})
}

func TestShift(t *testing.T) {
	const need = flagNeedsCsum
	for _, c := range []struct {
		name     string
		in, want []byte
	}{
		{"nothing", vnet(0, 0, 0, 0, 0, 0), vnet(0, 0, 0, 0, 0, 0)},
		{"checksum", vnet(need, 0, 0, 0, 34, 16), vnet(need, 0, 0, 0, 38, 16)},
		{"checksum not asked for", vnet(2, 0, 0, 0, 34, 16), vnet(2, 0, 0, 0, 34, 16)},
		{"super-frame", vnet(need, gsoTCP4, 54, 1460, 34, 16), vnet(need, gsoTCP4, 58, 1460, 38, 16)},
		{"UDP fragments", vnet(0, gsoUDP, 42, 1480, 0, 0), vnet(0, gsoUDP, 46, 1480, 0, 0)},
	} {
		if shift(c.in); !bytes.Equal(c.in, c.want) {
			t.Errorf("%s: % x, want % x", c.name, c.in, c.want)
		}
	}
}
