package replay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/google/gopacket/layers"
)

// The blocks of a pcapng file that matter here (draft-ietf-opsawg-pcapng, 4); all others are passed
// over.
const (
	blockInterface = 1
	blockPacket    = 2 // obsolete, but there are files
	blockSimple    = 3
	blockEnhanced  = 6
	blockSection   = 0x0a0d0d0a
)

// Options of an interface that matter here.
const (
	optionResolution = 9
	optionOffset     = 14
)

// A packet is one of a capture, as it was read. Its bytes are valid until the next is read.
type packet struct {
	data  []byte
	wire  uint32 // length on the wire, as the file says
	at    int64  // nanoseconds since the epoch
	timed bool   // at is set: a simple packet block has no time
}

// blocks reads the packets of a pcapng file. Those of non-Ethernet interfaces are passed over.
type blocks struct {
	r       *bufio.Reader // of which a block is a window
	size    int           // of the block at hand
	order   binary.ByteOrder
	legs    []capturer // the interfaces of the section
	links   []uint16   // link types other than Ethernet, of the file
	wired   bool       // an interface of the file is Ethernet
	skipped uint64     // packets of other interfaces
}

// capturer is one interface of a section.
type capturer struct {
	ethernet bool
	snap     uint32
	units    uint64 // of time in a second
	offset   int64  // seconds to add to times
}

// read finds the next packet. io.EOF is the end of the file between two blocks, and no other place.
func (b *blocks) read() (p packet, err error) {
	for found := false; !found && err == nil; {
		found, err = b.next(&p)
	}
	return p, err
}

// next reads a block, and reports whether it was a packet to be seen.
func (b *blocks) next(p *packet) (found bool, err error) {
	if _, err := b.r.Discard(b.size); err != nil {
		return false, cut(err)
	}
	b.size = 0
	kind, block, err := b.block()
	switch {
	case err != nil || block == nil:
	case kind == blockSection:
		err = b.section(block)
	case kind == blockInterface:
		err = b.capturer(block)
	default:
		found, err = b.packet(kind, block, p)
	}
	return found, err
}

// block looks at the next block: whole if it matters here, otherwise it is passed over and nil.
func (b *blocks) block() (kind uint32, block []byte, err error) {
	head, err := b.r.Peek(12)
	if len(head) == 0 {
		return 0, nil, err
	}
	if err != nil {
		return 0, nil, cut(err)
	}
	if binary.LittleEndian.Uint32(head) == blockSection {
		const magic = 0x1a2b3c4d
		switch {
		case binary.LittleEndian.Uint32(head[8:]) == magic:
			b.order = binary.LittleEndian
		case binary.BigEndian.Uint32(head[8:]) == magic:
			b.order = binary.BigEndian
		default:
			return 0, nil, errors.New("a section header without byte order magic")
		}
	}
	kind = b.order.Uint32(head)
	size := b.order.Uint32(head[4:])
	least := shortest(kind)
	if size < max(least, 12) || size%4 != 0 {
		return 0, nil, fmt.Errorf("a block of type %#x has the invalid length %d", kind, size)
	}
	if least == 0 {
		return 0, nil, b.pass(int64(size))
	}
	if size > buffer {
		return 0, nil, fmt.Errorf("a block of type %#x has %d bytes, more than the %d of the longest frame", kind, size, maxFrame)
	}
	if block, err = b.r.Peek(int(size)); err != nil {
		return 0, nil, cut(err)
	}
	if end := b.order.Uint32(block[size-4:]); end != size {
		return 0, nil, fmt.Errorf("a block of type %#x has %d bytes by its first length field and %d by its last", kind, size, end)
	}
	b.size = int(size)
	return kind, block, nil
}

// shortest is how long a block of a kind is at least; 0 for those that do not matter.
func shortest(kind uint32) uint32 {
	switch kind {
	case blockSection:
		return 28
	case blockInterface:
		return 20
	case blockPacket, blockEnhanced:
		return 32
	case blockSimple:
		return 16
	}
	return 0
}

// pass goes over a block of another kind, however long it is.
func (b *blocks) pass(size int64) error {
	_, err := io.CopyN(io.Discard, b.r, size)
	return cut(err)
}

// cut names an end of the file where there should be more.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errCut
	}
	return err
}

// section checks a section header. The interfaces before it are of no use any more.
func (b *blocks) section(block []byte) error {
	if major := b.order.Uint16(block[12:]); major != 1 {
		return fmt.Errorf("pcapng version %d.%d; 1.0 is known", major, b.order.Uint16(block[14:]))
	}
	b.legs = b.legs[:0]
	return b.options(block[24:len(block)-4], nil)
}

// capturer checks the description of an interface, and notes what matters of it.
func (b *blocks) capturer(block []byte) error {
	link := b.order.Uint16(block[8:])
	c := capturer{ethernet: link == uint16(layers.LinkTypeEthernet), snap: b.order.Uint32(block[12:]), units: 1e6}
	b.wired = b.wired || c.ethernet
	if !c.ethernet && !slices.Contains(b.links, link) {
		b.links = append(b.links, link)
	}
	err := b.options(block[16:len(block)-4], func(code uint16, value []byte) error {
		switch {
		case code == optionOffset && len(value) != 8, code == optionResolution && len(value) != 1:
			return fmt.Errorf("option %d of an interface has %d bytes", code, len(value))
		case code == optionResolution:
			return c.resolve(value[0])
		case code == optionOffset:
			c.offset = int64(b.order.Uint64(value))
		}
		return nil
	})
	b.legs = append(b.legs, c)
	return err
}

// resolve reads a resolution of time: a power of 10 or, with the upper bit, of 2.
func (c *capturer) resolve(v byte) error {
	c.units = 1
	switch {
	case v >= 128 && v < 128+64:
		c.units <<= v - 128
	case v <= 19:
		for range v {
			c.units *= 10
		}
	default:
		return fmt.Errorf("an interface counts time in units of 2 or 10 to the power of -%d", v&127)
	}
	return nil
}

// time converts a number of units to nanoseconds since 1970.
func (c *capturer) time(units uint64) (int64, error) {
	over, product := bits.Mul64(units%c.units, 1e9)
	fraction, _ := bits.Div64(over, product, c.units)
	seconds := units / c.units
	if seconds > math.MaxInt64 {
		return 0, fmt.Errorf("its time is %d seconds", seconds)
	}
	sum := int64(seconds) + c.offset
	if sum < 0 || sum >= math.MaxInt64/int64(time.Second) {
		return 0, fmt.Errorf("its time is %d and %d seconds since 1970; the latest readable time is in 2262", seconds, c.offset)
	}
	return sum*1e9 + int64(fraction), nil
}

// options walks a list of options, whose end may be marked or not.
func (b *blocks) options(list []byte, each func(code uint16, value []byte) error) error {
	for len(list) > 0 {
		code, n := b.order.Uint16(list), int(b.order.Uint16(list[2:]))
		if code == 0 && n == 0 {
			return nil
		}
		padded := (n + 3) &^ 3
		if code == 0 || padded > len(list)-4 {
			return errors.New("the options of a block exceed the block")
		}
		if each != nil {
			if err := each(code, list[4:4+n]); err != nil {
				return err
			}
		}
		list = list[4+padded:]
	}
	return nil
}

// packet reads a packet into p, and reports whether it is to be seen.
func (b *blocks) packet(kind uint32, block []byte, p *packet) (found bool, err error) {
	id := uint32(0)
	switch kind {
	case blockEnhanced:
		id = b.order.Uint32(block[8:])
	case blockPacket:
		id = uint32(b.order.Uint16(block[8:]))
	}
	if int64(id) >= int64(len(b.legs)) {
		return false, fmt.Errorf("it refers to interface %d, but only %d are described", id, len(b.legs))
	}
	c := &b.legs[id]
	start, have, room := 12, b.order.Uint32(block[8:]), len(block)-16
	if kind != blockSimple {
		start, have, room = 28, b.order.Uint32(block[20:]), len(block)-32
	} else if c.snap != 0 {
		have = min(have, c.snap)
	}
	switch {
	case int64(have) > int64(room):
		return false, fmt.Errorf("it has %d bytes in a block with room for %d", have, room)
	case have > maxFrame:
		return false, fmt.Errorf("it has %d bytes; the longest frame has %d", have, maxFrame)
	case !c.ethernet:
		b.skipped++
		return false, nil
	}
	*p = packet{data: block[start : start+int(have)], wire: b.order.Uint32(block[8:])}
	if kind == blockSimple {
		return true, nil
	}
	p.wire, p.timed = b.order.Uint32(block[24:]), true
	p.at, err = c.time(uint64(b.order.Uint32(block[12:]))<<32 | uint64(b.order.Uint32(block[16:])))
	return err == nil, err
}
