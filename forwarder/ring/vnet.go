package ring

import (
	"encoding/binary"

	"shunt/forwarder/frame"
)

// struct virtio_net_hdr (linux/virtio_net.h). AF_PACKET uses the host's byte order.
const (
	vnetLen = 10

	vnetFlags      = 0 // u8
	vnetGSOType    = 1 // u8
	vnetHdrLen     = 2 // u16, how much of the frame the kernel should keep in one piece
	vnetGSOSize    = 4 // u16, payload of one segment
	vnetCsumStart  = 6 // u16, from the Ethernet header
	vnetCsumOffset = 8 // u16, from csum_start

	flagNeedsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM

	gsoTCP4 = 1    // VIRTIO_NET_HDR_GSO_TCPV4
	gsoTCP6 = 4    // VIRTIO_NET_HDR_GSO_TCPV6
	gsoECN  = 0x80 // VIRTIO_NET_HDR_GSO_ECN, a bit beside the type
)

// maxLinear bounds hdr_len on sending, in bytes: a received frame tells the length of whatever
// piece came first, and the kernel would look for as much contiguous memory. All headers that it
// needs are shorter, and it pulls what is not (virtio_net_hdr_to_skb in linux/virtio_net.h).
const maxLinear = 256

// segmentLen returns the length of the longest IP packet that the kernel will make from a
// super-frame, in bytes, or 0 if the frame is none. The frame goes out at that length whatever the
// MTU of the leg: nothing below us looks.
func segmentLen(f *frame.Frame) int {
	if f.Head != vnetLen || len(f.Buf) < vnetLen+frame.HeaderLen || f.Buf[vnetGSOType]&^gsoECN == 0 {
		return 0
	}
	h, data := f.Buf[:vnetLen], f.Buf[vnetLen:]
	l4 := int(hostOrder.Uint16(h[vnetCsumStart:]))
	size := int(hostOrder.Uint16(h[vnetGSOSize:]))
	l3 := frame.HeaderLen
	for typ := binary.BigEndian.Uint16(data[12:]); typ == frame.EtherTypeVLAN || typ == frame.EtherTypeQinQ; {
		if len(data) < l3+frame.VLANTagLen {
			return 0
		}
		typ = binary.BigEndian.Uint16(data[l3+2:])
		l3 += frame.VLANTagLen
	}
	if h[vnetFlags]&flagNeedsCsum == 0 || l4 < l3 || l4+13 > len(data) {
		return 0 // the kernel will look for the headers itself, or refuse the frame
	}
	head := 8 // UDP
	if typ := h[vnetGSOType] &^ gsoECN; typ == gsoTCP4 || typ == gsoTCP6 {
		head = int(data[l4+12]>>4) * 4
	}
	return min(l4-l3-frame.JumboLen(data[l3:])+head+size, len(data)-l3)
}

// shift corrects a header for a frame that grows by a VLAN tag behind its MAC addresses.
func shift(h []byte) {
	if h[vnetFlags]&flagNeedsCsum != 0 {
		hostOrder.PutUint16(h[vnetCsumStart:], hostOrder.Uint16(h[vnetCsumStart:])+frame.VLANTagLen)
	}
	if n := hostOrder.Uint16(h[vnetHdrLen:]); n != 0 {
		hostOrder.PutUint16(h[vnetHdrLen:], n+frame.VLANTagLen)
	}
}
