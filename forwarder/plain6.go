package forwarder

import (
	"encoding/binary"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// glance6 is glance for IPv6: it reads the frame in place i if it is plain and to a VIP, and
// reports whether it is. The key of its flow is in place i then, but for what q.key has of it too:
// see unfold6.
func (w *Worker) glance6(s *snapshot, i int, f *frame.Frame) bool {
	q := &w.plain[i]
	b := frame.Glance6(f, &q.frame)
	if b == nil {
		return false
	}
	client, to := frame.Addresses6(b)
	first, last := binary.LittleEndian.Uint64(b[0:8]), binary.LittleEndian.Uint64(b[6:14])
	from := 1<<63 | uint64(f.In)<<32 | uint64(f.TPID)<<16 | uint64(f.TCI)
	h := &w.headers[last>>40%headerCache]
	if h.first != first || h.last != last || h.from != from {
		if !w.pass(s, f, b[:]) {
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
	if client.Hi>>56 == 0xff || client.Hi == 0 && client.Lo <= 1 || s.vips.ends.has(uint8(client.Lo)) && s.isVIP(client) {
		return false
	}
	kind := flow.TCP
	if q.frame.Proto == frame.UDP {
		kind = flow.UDP
	}
	q.key = flow.ShortKey6(client, q.frame.SrcPort, q.frame.DstPort, uint16(w.vip6.id), kind)
	w.keys[i].Client = client
	w.search.Hashes[i] = w.table.HashShort6(&q.key, client)
	return true
}

// unfold6 is unfold for a frame of IPv6: it writes what glance6 has not written of the key.
func (w *Worker) unfold6(i int) {
	q, k := &w.plain[i], &w.keys[i]
	k.VIP, k.ClientPort, k.VirtualPort, k.Kind = q.key.VIP(), q.frame.SrcPort, q.frame.DstPort, q.key.Kind()
}
