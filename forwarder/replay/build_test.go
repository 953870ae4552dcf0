package replay_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
)

// record is a packet of a capture as it is to be read.
type record struct {
	time int64 // nanoseconds since the epoch
	wire int   // 0: as long as data
	data []byte
}

// pcapFile builds a pcap file in either byte order, with a unit of time in nanoseconds.
func pcapFile(order binary.AppendByteOrder, unit int64, link uint32, records []record) []byte {
	magic := uint32(0xa1b2c3d4)
	if unit == 1 {
		magic = 0xa1b23c4d
	}
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(order.AppendUint32(b, 64), link) // shorter than some packets, as in many files
	for _, r := range records {
		b = order.AppendUint32(b, uint32(r.time/1e9))
		b = order.AppendUint32(b, uint32(r.time%1e9/unit))
		b = order.AppendUint32(b, uint32(len(r.data)))
		b = order.AppendUint32(b, uint32(max(r.wire, len(r.data))))
		b = append(b, r.data...)
	}
	return b
}

// ng builds a pcapng file block by block.
type ng struct {
	order interface {
		binary.AppendByteOrder
		binary.ByteOrder
	}
	b []byte
}

func (n *ng) block(kind uint32, body []byte) {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	size := uint32(len(body) + 12)
	n.b = n.order.AppendUint32(n.order.AppendUint32(n.b, kind), size)
	n.b = append(n.b, body...)
	n.b = n.order.AppendUint32(n.b, size)
}

func (n *ng) section(major, minor uint16) {
	b := n.order.AppendUint32(nil, 0x1a2b3c4d)
	b = n.order.AppendUint16(n.order.AppendUint16(b, major), minor)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	n.block(0x0a0d0d0a, append(b, n.option(4, []byte("a test"))...)) // no end of options
}

func (n *ng) option(code uint16, value []byte) []byte {
	b := n.order.AppendUint16(n.order.AppendUint16(nil, code), uint16(len(value)))
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func (n *ng) iface(link uint16, snap uint32, options ...[]byte) {
	b := n.order.AppendUint16(n.order.AppendUint16(nil, link), 0)
	b = n.order.AppendUint32(b, snap)
	for _, o := range options {
		b = append(b, o...)
	}
	if len(options) > 0 {
		b = append(b, 0, 0, 0, 0)
	}
	n.block(1, b)
}

// enhanced adds a packet at a time in the units of its interface.
func (n *ng) enhanced(id uint32, time uint64, r record) {
	b := n.order.AppendUint32(nil, id)
	b = n.order.AppendUint32(n.order.AppendUint32(b, uint32(time>>32)), uint32(time))
	b = n.order.AppendUint32(n.order.AppendUint32(b, uint32(len(r.data))), uint32(max(r.wire, len(r.data))))
	b = append(b, r.data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	n.block(6, append(b, n.option(1, []byte("a comment"))...))
}

// obsolete adds a packet block, simple a simple packet block.
func (n *ng) obsolete(id uint16, time uint64, r record) {
	b := n.order.AppendUint16(n.order.AppendUint16(nil, id), 0)
	b = n.order.AppendUint32(n.order.AppendUint32(b, uint32(time>>32)), uint32(time))
	b = n.order.AppendUint32(n.order.AppendUint32(b, uint32(len(r.data))), uint32(max(r.wire, len(r.data))))
	n.block(2, append(b, r.data...))
}

func (n *ng) simple(r record) {
	n.block(3, append(n.order.AppendUint32(nil, uint32(max(r.wire, len(r.data)))), r.data...))
}

func packed(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// payload is a frame of n bytes that can be told from others.
func payload(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i)
	}
	return b
}

func source(t testing.TB, file []byte) *replay.Source {
	t.Helper()
	s, err := replay.New("test.pcap", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// drain reads a source to its end, and checks what holds for every source.
func drain(t testing.TB, s *replay.Source, size int) (out []record, err error) {
	t.Helper()
	batch := make([]frame.Frame, size)
	last := int64(0)
	for {
		n, now, err := s.Next(batch)
		if (n == 0) != (err != nil) || n > size {
			t.Fatalf("%d frames and error %v", n, err)
		}
		if err != nil {
			if _, _, again := s.Next(batch); again != err {
				t.Fatalf("first %v, then %v", err, again)
			}
			if st := s.Stats(); st.Packets != uint64(len(out)) {
				t.Fatalf("%d packets are counted, and %d were lent", st.Packets, len(out))
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out, err
		}
		for _, f := range batch[:n] {
			if f.Time < last || f.Time > now {
				t.Fatalf("a frame of %d after one of %d, in a batch of %d", f.Time, last, now)
			}
			if int(f.Wire) < len(f.Buf) || f.In != 0 || f.Head != 0 {
				t.Fatalf("a frame of %d bytes: %+v", len(f.Buf), f)
			}
			last = f.Time
			out = append(out, record{f.Time, int(f.Wire), bytes.Clone(f.Buf)})
		}
	}
}

// equal compares what was read with what was to be read.
func equal(t testing.TB, got, want []record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i, w := range want {
		if g := got[i]; g.time != w.time || g.wire != max(w.wire, len(w.data)) || !bytes.Equal(g.data, w.data) {
			t.Errorf("packet %d is at %d, %d bytes of %d; want %d, %d bytes of %d", i+1,
				g.time, len(g.data), g.wire, w.time, len(w.data), max(w.wire, len(w.data)))
		}
	}
}
