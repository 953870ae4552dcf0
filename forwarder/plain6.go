package forwarder

import (
	"encoding/binary"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// glance6 is glance for IPv6: it reads the frame in place i if it is plain and to a VIP, and reports whether it is. The key of
// its flow is in place i then.
func (w *Worker) glance6(s *snapshot, i int, f *frame.Frame) bool {
	q, k := &w.plain[i], &w.keys[i]
	var to frame.Addr
	if !frame.Glance6(f, &q.frame, &k.Client, &to) {
		return false
	}
	b := f.Data()
	first, last := binary.LittleEndian.Uint64(b[0:8]), binary.LittleEndian.Uint64(b[6:14])
	from := 1<<63 | uint64(f.In)<<32 | uint64(f.TPID)<<16 | uint64(f.TCI)
	h := &w.headers[last>>40%headerCache]
	if h.first != first || h.last != last || h.from != from {
		if !w.pass(s, f, b) {
			return false
		}
		h.first, h.last, h.from = first, last, from
	}
	if w.vip6.addr != to {
		vip, ours := s.vips.find(to)
		if !ours {
			return false
		}
		w.vip6 = vipSlot{to, uint32(vip)}
	}
	// What badSource finds, and the VIPs.
	if k.Client.Hi>>56 == 0xff || k.Client.Hi == 0 && k.Client.Lo <= 1 || s.vips.ends.has(uint8(k.Client.Lo)) && s.isVIP(k.Client) {
		return false
	}
	k.VIP, k.ClientPort, k.VirtualPort, k.Kind = uint16(w.vip6.id), q.frame.SrcPort, q.frame.DstPort, flow.TCP
	if q.frame.Proto == frame.UDP {
		k.Kind = flow.UDP
	}
	w.search.Hashes[i] = w.table.Hash(k)
	return true
}
