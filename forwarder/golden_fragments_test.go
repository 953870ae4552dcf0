package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"shunt/forwarder/frame"
)

// parts are the fragments of one datagram, as they were sent and as they came out.
type parts struct{ sent, out []frame.Frame }

// fragment compares a datagram in fragments: the kernel sends all of them when the last has come,
// the engine each as soon as it knows where. Who receives which must be the same in the end; until
// then there is nothing to compare.
func (d *director) fragment(e *event, out []frame.Frame, rx []packet) error {
	g := d.datagram(*e.Tx.IPID)
	g.out = append(g.out, out...)
	if len(rx) == 0 {
		return errCarriedOut
	}
	var got, want []string
	for _, o := range g.out {
		b := o.Data()[14:]
		off := binary.BigEndian.Uint16(b[6:])
		got = append(got, fmt.Sprintf("%s %d-%d %t", receiver(o), off&0x1fff*8, off&0x1fff*8+binary.BigEndian.Uint16(b[2:])-20, off&0x2000 != 0))
	}
	for _, p := range rx {
		if p.Same {
			at := p.At
			p = e.Tx
			p.At = at
		}
		if p.Frag == nil {
			return fmt.Errorf("went to %s, the kernel sent %s", strings.Join(got, ", "), p.describe())
		}
		want = append(want, fmt.Sprintf("%s %d-%d %t", p.At, p.Frag.Off, p.Frag.Off+p.TotLen-20, p.Frag.MF))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("went to %s, the kernel's to %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
	return nil
}

func (d *director) datagram(id int) *parts {
	if d.parts == nil {
		d.parts = map[int]*parts{}
	}
	if d.parts[id] == nil {
		d.parts[id] = &parts{}
	}
	return d.parts[id]
}

// unchanged reports whether a frame came in as it goes out, but for its MACs: just now, or if it is
// a fragment earlier.
func (d *director) unchanged(o, sent frame.Frame) bool {
	same := func(f frame.Frame) bool { return bytes.Equal(f.Buf[12:], o.Buf[12:]) }
	b := sent.Buf[14:]
	if sent.Buf[12] != 0x08 || binary.BigEndian.Uint16(b[6:])&0x3fff == 0 {
		return same(sent)
	}
	return slices.ContainsFunc(d.datagram(int(binary.BigEndian.Uint16(b[4:]))).sent, same)
}
