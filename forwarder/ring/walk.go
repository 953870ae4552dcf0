package ring

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// hostOrder is the order of bytes in all that is shared with the kernel, but for the frames.
var hostOrder = binary.NativeEndian

// Offsets in a slot of TPACKET_V2 (struct tpacket2_hdr and the struct sockaddr_ll after it,
// linux/if_packet.h). All fields are in host byte order.
const (
	offStatus  = 0  // u32
	offLen     = 4  // u32, length on the wire
	offSnap    = 8  // u32, length in the slot
	offMac     = 12 // u16, offset of the Ethernet header
	offSec     = 16 // u32, when the kernel filled the slot: CLOCK_REALTIME
	offNsec    = 20 // u32
	offTCI     = 24 // u16
	offTPID    = 26 // u16
	offPktType = 42 // u8, sll_pkttype: sockaddr_ll starts at 32
	minMac     = 52 // tpacket2_hdr and sockaddr_ll: nothing of the frame lies before
)

// geometry is the layout of a ring as it was asked of the kernel: slots do not cross blocks, so
// that a block may end with unused bytes.
type geometry struct {
	slots     int // a multiple of perBlock
	slotSize  int // bytes, a multiple of unix.TPACKET_ALIGNMENT
	blockSize int // bytes, a multiple of the page size
	perBlock  int
}

// blockTarget is the size of block asked for: large enough that a slot is nearly always a whole
// fraction of it, small enough for the kernel to find contiguous pages (it falls back to vmalloc).
const blockTarget = 1 << 18

// newGeometry rounds slotSize up to the alignment and slots up to whole blocks. page is the page
// size, a power of two.
func newGeometry(slots, slotSize, page int) geometry {
	up := func(n, to int) int { return (n + to - 1) / to * to }
	g := geometry{slotSize: up(slotSize, unix.TPACKET_ALIGNMENT)}
	g.blockSize = up(max(g.slotSize, min(blockTarget, slots*g.slotSize)), page)
	g.perBlock = g.blockSize / g.slotSize
	g.slots = up(slots, g.perBlock)
	return g
}

// size is the memory of the ring in bytes.
func (g geometry) size() int {
	if g.slots == 0 {
		return 0 // no ring
	}
	return g.slots / g.perBlock * g.blockSize
}

// A cursor is a place in the ring: the slot's number and its offset.
type cursor struct{ slot, off int }

// step goes to the next slot, and from the last to the first.
func (g *geometry) step(c *cursor) {
	c.slot++
	c.off += g.slotSize
	if c.slot == g.slots {
		*c = cursor{}
	} else if c.slot%g.perBlock == 0 {
		c.off = c.slot / g.perBlock * g.blockSize
	}
}

// A slot is what the header of a slot says, read once and checked: the memory is the kernel's to
// write, and what is lent from it must lie within the slot whatever the header says.
type slot struct {
	status    uint32
	start     int // of the virtio_net_hdr, from the start of the ring
	end       int // of the bytes at hand
	wire      int // length on the wire; more than the bytes at hand if the slot was too small
	tpid, tci uint16
	pktType   uint8
}

// A walker takes slots from a ring in order and gives them back in order. It is used by one
// goroutine; the kernel is at the other end, and only tp_status is read and written by both.
type walker struct {
	geometry
	mem  []byte
	next cursor // the next slot to take
	tail cursor // the oldest slot that was taken and not given back
	held int    // slots from tail to next
}

func newWalker(mem []byte, g geometry) walker { return walker{geometry: g, mem: mem} }

// status is that of the next slot; TP_STATUS_KERNEL, as if it were empty, when all slots are held.
func (w *walker) status() uint32 {
	if w.held == w.slots {
		return unix.TP_STATUS_KERNEL
	}
	return loadStatus(w.mem, w.next.off)
}

// ready reports whether the kernel has filled the next slot.
func (w *walker) ready() bool { return w.status()&unix.TP_STATUS_USER != 0 }

// What take found.
type found uint8

const (
	nothing found = iota // the slot is still the kernel's
	good                 // s is filled
	damaged              // the header contradicts itself; the slot is held, as a good one is, and only s.status is set
)

// take reads the next slot into s. The slot is held, and its bytes may be lent, until giveBack.
func (w *walker) take(s *slot) found {
	// The acquiring load of the status comes before all other reads of the slot.
	status := w.status()
	if status&unix.TP_STATUS_USER == 0 {
		return nothing
	}
	at := w.next.off
	h := w.mem[at : at+minMac : at+minMac]
	w.step(&w.next)
	w.held++
	mac := int(hostOrder.Uint16(h[offMac:]))
	snap := int64(hostOrder.Uint32(h[offSnap:]))
	wire := int64(hostOrder.Uint32(h[offLen:]))
	*s = slot{status: status}
	if mac < minMac+vnetLen || int64(mac)+snap > int64(w.slotSize) || snap > wire || wire > maxWire {
		return damaged
	}
	*s = slot{
		status: status, start: at + mac - vnetLen, end: at + mac + int(snap), wire: int(wire), pktType: h[offPktType],
	}
	if status&unix.TP_STATUS_VLAN_VALID != 0 {
		s.tci = hostOrder.Uint16(h[offTCI:])
		s.tpid = 0x8100 // kernels before 3.14 do not tell
		if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			s.tpid = hostOrder.Uint16(h[offTPID:])
		}
	}
	return good
}

// maxWire bounds the length that is believed, in bytes: the kernel's largest super-frame
// (GSO_MAX_SIZE, 8 times 64 KiB) is below.
const maxWire = 1 << 20

// giveBack hands all held slots back to the kernel. Nothing lent from them may be used after.
func (w *walker) giveBack() {
	for ; w.held > 0; w.held-- {
		storeStatus(w.mem, w.tail.off, unix.TP_STATUS_KERNEL)
		w.step(&w.tail)
	}
}

// oldest is when the kernel filled the oldest slot that is held, in nanoseconds of CLOCK_REALTIME.
// One must be held.
func (w *walker) oldest() int64 {
	h := w.mem[w.tail.off:][:minMac]
	return int64(hostOrder.Uint32(h[offSec:]))*1e9 + int64(hostOrder.Uint32(h[offNsec:]))
}

// filled counts the slots that the kernel has filled from the slot numbered from on, and that were
// not taken by then. Unlike the rest it may be called by any goroutine while mem is mapped: it
// reads nothing but tp_status.
func (w *walker) filled(from int) int {
	if w.slots == 0 {
		return 0
	}
	c := cursor{from, from/w.perBlock*w.blockSize + from%w.perBlock*w.slotSize}
	n := 0
	for n < w.slots && loadStatus(w.mem, c.off)&unix.TP_STATUS_USER != 0 {
		w.step(&c)
		n++
	}
	return n
}
