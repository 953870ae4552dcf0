package replay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
)

// small is a capture that is short enough to be cut everywhere.
var small = []record{
	{1_700_000_000 * second, 0, payload(60, 1)}, {1_700_000_000*second + 7000, 0, payload(21, 2)},
	{1_700_000_003 * second, 99, payload(33, 3)},
}

func smallNG() []byte {
	n := &ng{order: binary.LittleEndian}
	n.section(1, 0)
	n.iface(1, 0)
	n.enhanced(0, uint64(small[0].time/1000), small[0])
	n.block(0xbad, payload(16, 0))
	n.enhanced(0, uint64(small[1].time/1000), small[1])
	n.obsolete(0, uint64(small[2].time/1000), small[2])
	return n.b
}

// A file that is cut anywhere gives all the packets that are whole, and then an error unless it is
// cut between two records.
func TestCut(t *testing.T) {
	for name, file := range map[string][]byte{
		"pcap":   pcapFile(binary.LittleEndian, 1000, 1, small),
		"pcapng": smallNG(),
	} {
		t.Run(name, func(t *testing.T) {
			clean := 0
			for n := range len(file) {
				s, err := replay.New("FILE", bytes.NewReader(file[:n]), int64(n))
				if err != nil {
					continue
				}
				got, err := drain(t, s, 64)
				equal(t, got, small[:len(got)])
				var damage *replay.DamageError
				switch {
				case err == nil:
					clean++
				case !errors.As(err, &damage) || int(damage.Packet) != len(got)+1 || !strings.Contains(err.Error(), "in the middle"):
					t.Errorf("cut to %d bytes: error %v after %d packets", n, err, len(got))
				}
			}
			if want := map[string]int{"pcap": 3, "pcapng": 5}[name]; clean != want {
				t.Errorf("%d cuts go unnoticed, want the %d between two records", clean, want)
			}
		})
	}
}

// A compressed file that is cut anywhere is always noticed: gzip has an end of its own.
func TestCutGzip(t *testing.T) {
	for _, plain := range [][]byte{pcapFile(binary.LittleEndian, 1000, 1, small), smallNG()} {
		file := packed(plain)
		for n := range len(file) {
			s, err := replay.New("FILE", bytes.NewReader(file[:n]), int64(n))
			if err != nil {
				continue
			}
			got, err := drain(t, s, 64)
			equal(t, got, small[:len(got)])
			if err == nil {
				t.Errorf("cut to %d bytes of %d: no error", n, len(file))
			}
		}
		file[len(file)-5]++ // the checksum
		if _, err := drain(t, source(t, file), 64); err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("error %v over a wrong checksum", err)
		}
	}
}

// What is wrong is told, and nothing is believed that would take memory or end the process.
func TestDamage(t *testing.T) {
	build := func(fn func(n *ng)) []byte {
		n := &ng{order: binary.LittleEndian}
		n.section(1, 0)
		fn(n)
		return n.b
	}
	long := func(at int, v uint32) []byte {
		b := pcapFile(binary.LittleEndian, 1000, 1, small)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	one := record{data: payload(20, 1)}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"pcap: long packet":      {long(24+8, 1<<31), "FILE: packet 1 cannot be read"},
		"pcap: wrong length":     {long(24+76+8, 40), "packet 3 cannot be read"},
		"pcap: long on the wire": {long(24+12, 1<<31), "packet 1 cannot be read: its length on the wire is 2147483648 bytes"},
		"two years": {pcapFile(binary.LittleEndian, 1, 1, []record{{0, 0, one.data}, {1_700_000_000 * second, 0, one.data}}),
			"packet 2 cannot be read: its time is 2023-11-14 22:13:20, more than two years"},
		"version":                      {build(func(n *ng) { n.iface(1, 0); n.section(2, 0) }), "version 2.0"},
		"no interface":                 {build(func(n *ng) { n.simple(one) }), "interface 0, but only 0"},
		"interface of another section": {build(func(n *ng) { n.iface(1, 0); n.section(1, 0); n.enhanced(0, 0, one) }), "interface 0, but only 0"},
		"wrong interface":              {build(func(n *ng) { n.iface(1, 0); n.enhanced(1<<31, 0, one) }), "interface 2147483648"},
		"short offset":                 {build(func(n *ng) { n.iface(1, 0, n.option(14, []byte{1})) }), "option 14"},
		"no resolution":                {build(func(n *ng) { n.iface(1, 0, n.option(9, nil)) }), "option 9"},
		"resolution 10":                {build(func(n *ng) { n.iface(1, 0, n.option(9, []byte{20})) }), "power of -20"},
		"resolution 2":                 {build(func(n *ng) { n.iface(1, 0, n.option(9, []byte{255})) }), "power of -127"},
		"option too long":              {build(func(n *ng) { n.block(1, []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 9, 0, 1, 2, 3, 4}) }), "exceed the block"},
		"late time":                    {build(func(n *ng) { n.iface(1, 0); n.enhanced(0, 1<<63, one) }), "its time is 9223372036854"},
		"later time":                   {build(func(n *ng) { n.iface(1, 0, n.option(9, []byte{0})); n.enhanced(0, 1<<63, one) }), "its time is"},
		"long block":                   {build(func(n *ng) { n.iface(1, 0); n.block(6, make([]byte, 1<<20)) }), "the longest frame"},
		"long packet": {build(func(n *ng) {
			n.iface(1, 0)
			n.block(6, append(binary.LittleEndian.AppendUint32(make([]byte, 12), 1<<30), 0, 0, 0, 0))
		}), "has 1073741824 bytes in a block with room for 0"},
		"short block": {build(func(n *ng) { n.iface(1, 0); n.block(6, nil) }), "type 0x6 has the invalid length 12"},
		"odd block":   {build(func(n *ng) { n.iface(1, 0); n.b = append(n.b, 6, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0) }), "has the invalid length 33"},
		"two lengths": {func() []byte {
			b := smallNG()
			b[len(b)-4]++
			return b
		}(), "by its last"},
	} {
		s, err := replay.New("FILE", bytes.NewReader(c.file), 0)
		if err == nil {
			_, err = drain(t, s, 64)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v\nwant %q", name, err, c.want)
		}
	}
}

// FuzzSource reads any bytes as a capture: it ends, and it ends as it should.
func FuzzSource(f *testing.F) {
	n := &ng{order: binary.LittleEndian}
	n.section(1, 0)
	n.iface(1, 50, n.option(9, []byte{0x80 | 30}), n.option(11, []byte{0, 'x'}), n.option(14, make([]byte, 8)))
	n.iface(113, 0)
	n.enhanced(0, 1<<40, small[0])
	n.enhanced(1, 1<<40, small[0])
	n.simple(small[2])
	for _, file := range [][]byte{pcapFile(binary.LittleEndian, 1, 1, small), pcapFile(binary.BigEndian, 1000, 1, small), smallNG(), n.b} {
		f.Add(file)
		f.Add(packed(file))
		f.Add(file[:len(file)-5])
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := replay.New("FILE", bytes.NewReader(file), 0)
		if err != nil {
			return
		}
		first, noFirst := s.First()
		got, err := drain(t, s, 64)
		if (noFirst != nil) != (len(got) == 0) || len(got) > 0 && got[0].time != first {
			t.Fatalf("the first of %d packets is at %d: %v", len(got), first, noFirst)
		}
		// What was read can be written, and read again as it was.
		var out bytes.Buffer
		sink, err2 := replay.NewSink(&out)
		if err2 != nil {
			t.Fatal(err2)
		}
		for _, r := range got {
			if lost := sink.Send([]frame.Frame{{Buf: r.data, Time: r.time, Wire: int32(r.wire)}}); lost.Total() != 0 {
				if r.time/second > math.MaxUint32 {
					return // a pcap file cannot hold it
				}
				t.Fatal(sink.Err())
			}
		}
		if err := sink.Flush(); err != nil {
			t.Fatal(err)
		}
		again, err2 := drain(t, source(t, out.Bytes()), 7)
		if err2 != nil {
			t.Fatal(err2, err)
		}
		equal(t, again, got)
	})
}
