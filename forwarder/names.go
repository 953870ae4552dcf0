package forwarder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// The file "names" says what the numbers stand for that flows have: VIPs and groups, services,
// destinations. It is a head and records, each with a checksum. A record is written before any flow
// can have its number, and a later one replaces an earlier one of the same number; so a file that
// ends in the midst of a record lacks nothing.

const (
	namesMagic   = "shunt names\n\000\000\000\000"
	namesVersion = 1

	// maxDestID bounds the ids of destinations that another process can take over, so that a
	// damaged file asks for little memory.
	maxDestID = maxCounted
)

// namesHead is the head of the file, numbers in the machine's order: only processes of the same
// machine read it.
type namesHead struct {
	Magic      [16]byte
	Version    uint32
	Workers    uint32
	Flows      uint64 // of each worker's table
	Boot       [16]byte
	Seed       [2]uint64
	Epoch      int64
	TableCheck uint32 // of all before it
	_          uint32
}

const namesHeadSize = 16 + 4 + 4 + 8 + 16 + 16 + 8 + 4 + 4

func (h *namesHead) append(b []byte) []byte {
	start := len(b)
	b, _ = binary.Append(b, binary.NativeEndian, h)
	binary.NativeEndian.PutUint32(b[start+namesHeadSize-8:], crc32.ChecksumIEEE(b[start:start+namesHeadSize-8]))
	return b
}

// names is what the file says.
type names struct {
	head     namesHead
	vips     []vipName // by number
	services map[uint16]ServiceKey
	dests    []destName // by id
}

// vipName is what the number of a VIP stands for: an address, or a group if addr is zero, or
// nothing if the group is too.
type vipName struct {
	addr  frame.Addr
	group ServiceKey
}

type destName struct {
	known bool
	destKey
	vip  frame.Addr // of its service, if that has one
	kind flow.Kind  // of its service's flows, likewise
}

// Types of records.
const (
	vipRecord = iota + 1
	groupRecord
	serviceRecord
	destRecord
)

// appendRecord appends a record: its length and checksum, its type, the number, and what it stands
// for.
func appendRecord(b []byte, typ byte, id uint32, what func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, 8)...)
	b = append(b, typ)
	b = binary.NativeEndian.AppendUint32(b, id)
	b = what(b)
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start-8))
	binary.NativeEndian.PutUint32(b[start+4:], crc32.ChecksumIEEE(b[start+8:]))
	return b
}

func appendVIP(b []byte, id uint16, v vipName) []byte {
	if v.addr == (frame.Addr{}) {
		return appendRecord(b, groupRecord, uint32(id), func(b []byte) []byte { return appendKey(b, &v.group) })
	}
	return appendRecord(b, vipRecord, uint32(id), func(b []byte) []byte {
		return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(b, v.addr.Hi), v.addr.Lo)
	})
}

func appendService(b []byte, id uint16, key ServiceKey) []byte {
	return appendRecord(b, serviceRecord, uint32(id), func(b []byte) []byte { return appendKey(b, &key) })
}

func appendDest(b []byte, id uint32, d destKey) []byte {
	return appendRecord(b, destRecord, id, func(b []byte) []byte {
		b = binary.NativeEndian.AppendUint16(appendAddr(b, d.addr), d.port)
		return appendKey(b, &d.service)
	})
}

func appendAddr(b []byte, a netip.Addr) []byte {
	s := a.AsSlice() // a realserver's or VIP's: no zone
	return append(append(b, byte(len(s))), s...)
}

func appendKey(b []byte, k *ServiceKey) []byte {
	b = binary.NativeEndian.AppendUint32(b, k.Mark)
	v6 := byte(0)
	if k.V6 {
		v6 = 1
	}
	b = appendAddr(append(b, v6, byte(k.Proto)), k.Addr)
	b = binary.NativeEndian.AppendUint16(b, k.Port)
	return append(b, k.Name...)
}

var errNames = errors.New("a record is too short")

// reader takes values off the front of a record.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.err, r.b = errNames, make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u16() uint16 { return binary.NativeEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.NativeEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.NativeEndian.Uint64(r.take(8)) }

func (r *reader) addr() netip.Addr {
	a, _ := netip.AddrFromSlice(r.take(int(r.take(1)[0]))) // none is the zero Addr
	return a
}

func (r *reader) key() (k ServiceKey) {
	k.Mark = r.u32()
	k.V6 = r.take(1)[0] != 0
	k.Proto = frame.Proto(r.take(1)[0])
	k.Addr = r.addr()
	k.Port = r.u16()
	k.Name = string(r.take(len(r.b)))
	return k
}

// parseNames reads a file of names. What comes behind a damaged record is not read, and rest is how
// much that is.
func parseNames(b []byte) (n names, rest int, err error) {
	if len(b) < namesHeadSize {
		return n, 0, errors.New("the header is missing")
	}
	if _, err := binary.Decode(b, binary.NativeEndian, &n.head); err != nil {
		return n, 0, err
	}
	switch {
	case string(n.head.Magic[:]) != namesMagic:
		return n, 0, errors.New("not a file of names")
	case n.head.Version != namesVersion:
		return n, 0, fmt.Errorf("written by another version: layout %d, expected %d", n.head.Version, namesVersion)
	case n.head.TableCheck != crc32.ChecksumIEEE(b[:namesHeadSize-8]):
		return n, 0, errors.New("the header is damaged")
	}
	n.services = map[uint16]ServiceKey{}
	b = b[namesHeadSize:]
	for len(b) >= 8 {
		length, sum := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		if uint64(length) > uint64(len(b)-8) || sum != crc32.ChecksumIEEE(b[8:8+length]) || !n.record(b[8:8+length]) {
			break
		}
		b = b[8+length:]
	}
	return n, len(b), nil
}

// record understands one record, and reports whether it could.
func (n *names) record(b []byte) bool {
	r := &reader{b: b}
	typ, id := r.take(1)[0], r.u32()
	switch {
	case typ == vipRecord && id <= 0xffff:
		n.vip(id).addr = frame.Addr{Hi: r.u64(), Lo: r.u64()}
	case typ == groupRecord && id <= 0xffff:
		n.vip(id).group = r.key()
	case typ == serviceRecord && id < maxServices:
		n.services[uint16(id)] = r.key()
	case typ == destRecord && id < maxDestID:
		if need := int(id) + 1 - len(n.dests); need > 0 {
			n.dests = slices.Grow(n.dests, need)[:id+1]
		}
		d := destName{known: true, destKey: destKey{addr: r.addr(), port: r.u16()}}
		if d.service = r.key(); d.service.Addr.IsValid() {
			d.vip, d.kind = frame.AddrFrom(d.service.Addr), flow.KindOf(d.service.Proto)
		}
		n.dests[id] = d
	default:
		return false
	}
	return r.err == nil
}

func (n *names) vip(id uint32) *vipName {
	if need := int(id) + 1 - len(n.vips); need > 0 {
		n.vips = append(n.vips, make([]vipName, need)...)
	}
	return &n.vips[id]
}

// fits reports whether a flow or template may have destination d, as far as the names tell.
func (n *names) fits(k *flow.Key, d uint32) bool {
	if int(k.VIP) >= len(n.vips) || int(d) >= len(n.dests) || !n.dests[d].known {
		return false
	}
	v, to := &n.vips[k.VIP], &n.dests[d]
	if v.addr == (frame.Addr{}) { // a group's number, which only its templates have
		return k.Kind == flow.AnyProto|flow.Template && v.group != ServiceKey{} && v.group == to.service
	}
	if v.addr.Is4() != k.Client.Is4() || v.addr.Is4() != to.addr.Is4() {
		return false
	}
	if to.service.Mark != 0 || to.service.Name != "" {
		return true // a group's flow; which addresses the group has, only the configuration says
	}
	return v.addr == to.vip && k.Kind&^flow.Template == to.kind
}

// maxService is the highest id of a service, or -1.
func (n *names) maxService() int {
	highest := -1
	for id := range n.services {
		highest = max(highest, int(id))
	}
	return highest
}
