package forwarder

import (
	"encoding/binary"

	"shunt/forwarder/frame"
)

// tooBig decides about a packet that is longer than the MTU of its destination's leg, as
// ensure_mtu_is_adequate (net/netfilter/ipvs/ip_vs_xmit.c) does: a super-frame whose segments fit
// goes on, since the device or the kernel cuts it; to one that must not be fragmented the VIP
// answers with the MTU that it may have (RFC 1191, 4; RFC 8201). What may be fragmented the kernel
// would fragment: the director changes no packet, and counts it.
func (w *Worker) tooBig(s *snapshot, d *dest, f *frame.Frame, p *frame.Packet) Verdict {
	v := d.fits(f, p)
	switch {
	case v != FragNeeded:
	case p.V6:
		w.complain(s, f, p, 2, 0, d.mtu)
	default:
		w.complain(s, f, p, 3, 4, min(d.mtu, 0xffff))
	}
	return v
}

// fits returns why a packet is too long for the leg of its destination, or Forwarded.
func (d *dest) fits(f *frame.Frame, p *frame.Packet) Verdict {
	n := segmentLen(f, p)
	switch {
	case p.Len <= d.mtu || n != 0 && n <= d.mtu:
		return Forwarded
	case p.V6 || p.DF:
		return FragNeeded
	}
	return AboveMTU
}

// Offsets and values of a virtio_net_hdr (linux/virtio_net.h), in the host's byte order.
const (
	vnetGSOType = 1    // u8
	vnetGSOSize = 4    // u16, payload of one segment
	gsoECN      = 0x80 // VIRTIO_NET_HDR_GSO_ECN, a bit beside the type
	gsoTCP4     = 1    // VIRTIO_NET_HDR_GSO_TCPV4
	gsoTCP6     = 4    // VIRTIO_NET_HDR_GSO_TCPV6
)

// segmentLen is the length of the longest IP packet that a super-frame is cut into, in bytes; 0 if
// the frame is none, or if its headers do not tell.
func segmentLen(f *frame.Frame, p *frame.Packet) uint32 {
	if f.Head < vnetGSOSize+2 || p.L4 == 0 {
		return 0
	}
	head := uint32(8) // UDP
	switch f.Buf[vnetGSOType] &^ gsoECN {
	case 0:
		return 0
	case gsoTCP4, gsoTCP6:
		head = uint32(f.Data()[p.L4+12]>>4) * 4
	}
	return min(uint32(p.L4-p.L3)-uint32(frame.JumboLen(f.Data()[p.L3:]))+head+uint32(binary.NativeEndian.Uint16(f.Buf[vnetGSOSize:])), p.Len)
}
