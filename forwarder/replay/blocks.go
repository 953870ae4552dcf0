package replay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/google/gopacket/layers"
)

// The blocks of a pcapng file that matter here (draft-ietf-opsawg-pcapng, 4); all others are passed over.
const (
	blockInterface = 1
	blockPacket    = 2 // obsolete, but there are files
	blockSimple    = 3
	blockEnhanced  = 6
	blockSection   = 0x0a0d0d0a
)

// Options of an interface that pcapgo reads without looking how long they are.
const (
	optionResolution = 9
	optionFilter     = 11
	optionOffset     = 14
)

// blocks hands a pcapng file on to pcapgo, block by block, each whole and checked. pcapgo believes what a file says: it
// takes as much memory as a packet claims to need, panics over options that are too short, cannot tell a file that
// was cut from one that has ended, takes link type 257 for 1, and is inexact where a clock counts in powers of two.
// Packets of interfaces that are not Ethernet end here.
type blocks struct {
	r       *bufio.Reader // of which a block is a window
	size    int           // of the block at hand
	rest    []byte        // of it, what pcapgo has not read yet
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
	// units a second, if the time of its packets is to be converted; else 0
	units uint64
}

// Read gives pcapgo the next bytes.
func (b *blocks) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// next finds the next block that pcapgo is to see. io.EOF is the end of the file between two blocks, and no other place.
func (b *blocks) next() error {
	if _, err := b.r.Discard(b.size); err != nil {
		return cut(err)
	}
	b.size = 0
	head, err := b.r.Peek(12)
	if len(head) == 0 {
		return err
	}
	if err != nil {
		return cut(err)
	}
	if binary.LittleEndian.Uint32(head) == blockSection {
		const magic = 0x1a2b3c4d
		switch {
		case binary.LittleEndian.Uint32(head[8:]) == magic:
			b.order = binary.LittleEndian
		case binary.BigEndian.Uint32(head[8:]) == magic:
			b.order = binary.BigEndian
		default:
			return errors.New("a section header without its byte order magic")
		}
	}
	kind, size := b.order.Uint32(head), b.order.Uint32(head[4:])
	least := shortest(kind)
	if size < max(least, 12) || size%4 != 0 {
		return fmt.Errorf("a block of type %#x says that it has %d bytes", kind, size)
	}
	if least == 0 {
		return b.pass(int64(size))
	}
	if size > buffer {
		return fmt.Errorf("a block of type %#x has %d bytes, more than the %d of the longest frame", kind, size, maxFrame)
	}
	block, err := b.r.Peek(int(size))
	if err != nil {
		return cut(err)
	}
	if b.order.Uint32(block[size-4:]) != size {
		return fmt.Errorf("a block of type %#x has %d bytes at its beginning and %d at its end", kind, size, b.order.Uint32(block[size-4:]))
	}
	b.size = int(size)
	show := true
	switch kind {
	case blockSection:
		err = b.section(block)
	case blockInterface:
		err = b.capturer(block)
	default:
		show, err = b.packet(kind, block)
	}
	if show && err == nil {
		b.rest = block
	}
	return err
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
	b.order.PutUint16(block[14:], 0) // 1.2 is the same format, but pcapgo does not know that
	b.legs = b.legs[:0]
	return b.options(block[24:len(block)-4], nil)
}

// capturer checks the description of an interface, and notes what matters of it.
func (b *blocks) capturer(block []byte) error {
	link := b.order.Uint16(block[8:])
	c := capturer{ethernet: link == uint16(layers.LinkTypeEthernet), snap: min(b.order.Uint32(block[12:]), maxFrame)}
	b.order.PutUint32(block[12:], c.snap) // pcapgo takes as much memory
	b.wired = b.wired || c.ethernet
	if !c.ethernet && !slices.Contains(b.links, link) {
		b.links = append(b.links, link)
	}
	err := b.options(block[16:len(block)-4], func(code uint16, value []byte) error {
		switch {
		case code == optionFilter && len(value) < 1, code == optionOffset && len(value) != 8,
			code == optionResolution && len(value) != 1:
			return fmt.Errorf("option %d of an interface has %d bytes", code, len(value))
		case code == optionResolution:
			return c.resolve(value)
		}
		return nil
	})
	b.legs = append(b.legs, c)
	return err
}

// resolve reads a resolution of time. One that pcapgo does not read exactly becomes nanoseconds.
func (c *capturer) resolve(value []byte) error {
	v := value[0]
	c.units = 1
	switch {
	case v >= 1 && v <= 9:
		c.units = 0
		return nil
	case v >= 128 && v < 128+64:
		c.units <<= v - 128
	case v <= 19:
		for range v {
			c.units *= 10
		}
	default:
		return fmt.Errorf("an interface counts time in units of 2 or 10 to the power of -%d", v&127)
	}
	value[0] = 9
	return nil
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
			return errors.New("the options of a block do not fit it")
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

// packet checks a packet, and reports whether it is to be seen.
func (b *blocks) packet(kind uint32, block []byte) (show bool, err error) {
	id, have, room := uint32(0), b.order.Uint32(block[8:]), len(block)-16
	if kind == blockEnhanced {
		id = b.order.Uint32(block[8:])
	} else if kind == blockPacket {
		id = uint32(b.order.Uint16(block[8:]))
	}
	if int64(id) >= int64(len(b.legs)) {
		return false, fmt.Errorf("it is of interface %d, and only %d are described", id, len(b.legs))
	}
	c := &b.legs[id]
	if kind != blockSimple {
		have, room = b.order.Uint32(block[20:]), len(block)-32
	} else if c.snap != 0 {
		have = min(have, c.snap)
	}
	if int64(have) > int64(room) {
		return false, fmt.Errorf("it has %d bytes in a block with room for %d", have, room)
	}
	if have > maxFrame {
		return false, fmt.Errorf("it has %d bytes; the longest frame has %d", have, maxFrame)
	}
	if !c.ethernet {
		b.skipped++
		return false, nil
	}
	if c.units != 0 && kind != blockSimple {
		units := uint64(b.order.Uint32(block[12:]))<<32 | uint64(b.order.Uint32(block[16:]))
		over, product := bits.Mul64(units%c.units, 1e9)
		fraction, _ := bits.Div64(over, product, c.units)
		over, product = bits.Mul64(units/c.units, 1e9)
		ns, carry := bits.Add64(product, fraction, 0)
		if over+carry != 0 {
			return false, fmt.Errorf("its time is %d seconds", units/c.units)
		}
		b.order.PutUint32(block[12:], uint32(ns>>32))
		b.order.PutUint32(block[16:], uint32(ns))
	}
	return true, nil
}
