package replay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
)

const second = int64(time.Second)

// sample is one capture in all its forms.
var sample = []record{
	{1_700_000_000*second + 1000, 0, payload(60, 1)},
	{1_700_000_000*second + 2000, 0, payload(1514, 2)},
	{1_700_000_000*second + 2000, 9000, payload(96, 3)}, // cut short by the capture
	{1_700_000_001 * second, 0, payload(61, 4)},
	{1_700_000_900*second + 999_999_000, 0, payload(65_549, 5)},
	{1_700_000_901 * second, 0, nil},
}

// ngSample is sample as pcapng, with everything between that is to be passed over.
func ngSample(big bool) []byte {
	n := &ng{order: binary.LittleEndian}
	if big {
		n.order = binary.BigEndian
	}
	n.section(1, 2)
	n.iface(1, 0xffffffff, n.option(2, []byte("eth0")), n.option(11, []byte("\x00tcp")))
	n.iface(1, 0, n.option(9, []byte{9}))
	n.block(4, payload(40, 9))                                            // names
	n.block(0xbad, payload(1<<20, 9))                                     // nobody knows
	n.block(5, append(make([]byte, 12), n.option(2, []byte("short"))...)) // statistics, broken
	for i, r := range sample {
		switch i % 3 {
		case 0:
			n.enhanced(0, uint64(r.time/1000), r)
		case 1:
			n.enhanced(1, uint64(r.time), r)
		case 2:
			n.obsolete(1, uint64(r.time), r)
		}
	}
	return n.b
}

func TestFormats(t *testing.T) {
	for name, file := range map[string][]byte{
		"pcap little microseconds": pcapFile(binary.LittleEndian, 1000, 1, sample),
		"pcap little nanoseconds":  pcapFile(binary.LittleEndian, 1, 1, sample),
		"pcap big microseconds":    pcapFile(binary.BigEndian, 1000, 1, sample),
		"pcap big nanoseconds":     pcapFile(binary.BigEndian, 1, 1, sample),
		"pcap with FCS length":     pcapFile(binary.LittleEndian, 1, 0x24000001, sample),
		"pcapng little":            ngSample(false),
		"pcapng big":               ngSample(true),
	} {
		for _, compressed := range []bool{false, true} {
			if compressed {
				name, file = name+" gzip", packed(file)
			}
			t.Run(name, func(t *testing.T) {
				for _, size := range []int{1, 2, 64} {
					s := source(t, file)
					first, err := s.First()
					if err != nil || first != sample[0].time {
						t.Fatal(first, err)
					}
					got, err := drain(t, s, size)
					if err != nil {
						t.Fatal(err)
					}
					equal(t, got, sample)
					st := s.Stats()
					if st.First != sample[0].time || st.Last != sample[5].time || st.Bytes != 60+1514+9000+61+65549 ||
						st.Compressed != compressed || st.Skipped != 0 || st.StepsBack != 0 {
						t.Errorf("%+v", st)
					}
					if read, size := s.Progress(); read != int64(len(file)) || size != read {
						t.Errorf("%d bytes of %d were read, of %d", read, size, len(file))
					}
				}
			})
		}
	}
}

// Times: what steps back gets the latest time, what has none that of the packet before.
func TestTimes(t *testing.T) {
	n := &ng{order: binary.LittleEndian}
	n.section(1, 0)
	n.iface(1, 100)
	n.iface(1, 0, n.option(9, []byte{3}), n.option(14, binary.LittleEndian.AppendUint64(nil, 1000))) // ms, from 1000 s on
	n.iface(1, 0, n.option(9, []byte{0x80 | 20}))                                                    // 2^-20 s
	n.iface(1, 0, n.option(9, []byte{0}))                                                            // seconds
	n.iface(1, 0, n.option(9, []byte{12}))                                                           // picoseconds
	n.enhanced(0, 1000_000_000, record{data: payload(20, 1)})
	n.simple(record{data: payload(20, 2)})
	n.simple(record{data: payload(100, 3), wire: 300})
	n.enhanced(1, 1500, record{data: payload(20, 4)})
	n.enhanced(2, 1002<<20+1<<19+1, record{data: payload(20, 5)})
	n.enhanced(3, 1001, record{data: payload(20, 6)})
	n.enhanced(3, 1003, record{data: payload(20, 7)})
	n.enhanced(4, 1004_123_456_789_000, record{data: payload(20, 8)})
	s := source(t, n.b)
	got, err := drain(t, s, 64)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, []record{
		{1000 * second, 0, payload(20, 1)}, {1000 * second, 0, payload(20, 2)}, {1000 * second, 300, payload(100, 3)},
		{1001*second + second/2, 0, payload(20, 4)}, {1002*second + 500_000_953, 0, payload(20, 5)},
		{1002*second + 500_000_953, 0, payload(20, 6)}, {1003 * second, 0, payload(20, 7)},
		{1004*second + 123_456_789, 0, payload(20, 8)},
	})
	if n := s.Stats().StepsBack; n != 1 {
		t.Errorf("%d steps back, want 1", n)
	}
}

// A batch never holds frames between which the connection table's clock moves.
func TestSpan(t *testing.T) {
	if replay.Span != flow.Tick.Nanoseconds() {
		t.Fatalf("a batch spans %d ns at most, and a tick is %v", replay.Span, flow.Tick)
	}
	start := 1_700_000_000*second + 12345
	var records []record
	for i, at := range []int64{0, 5, replay.Span - 1, replay.Span, 2*replay.Span - 1, 900 * second} {
		records = append(records, record{start + at, 0, payload(20, byte(i))})
	}
	s := source(t, pcapFile(binary.LittleEndian, 1, 1, records))
	batch := make([]frame.Frame, 64)
	for _, want := range []int{3, 2, 1} {
		if n, _, err := s.Next(batch); n != want || err != nil {
			t.Fatalf("a batch of %d, %v; want %d", n, err, want)
		}
	}
	if n, now, err := s.Next(batch); n != 0 || err != io.EOF || now != start+900*second {
		t.Fatal(n, now, err)
	}
}

// Packets of non-Ethernet interfaces are passed over and counted; a capture of nothing else is
// refused.
func TestLinkTypes(t *testing.T) {
	build := func(links ...uint16) []byte {
		n := &ng{order: binary.LittleEndian}
		n.section(1, 0)
		for _, l := range links {
			n.iface(l, 0)
		}
		for i, r := range sample {
			n.enhanced(uint32(i%len(links)), uint64(r.time/1000), r)
		}
		return n.b
	}
	s := source(t, build(113, 1, 257))
	got, err := drain(t, s, 64)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, []record{sample[1], sample[4]})
	if st := s.Stats(); st.Skipped != 4 {
		t.Errorf("%d skipped, want 4", st.Skipped)
	}
	_, err = drain(t, source(t, build(113, 276)), 64)
	if err == nil || !strings.Contains(err.Error(), "no Ethernet") || !strings.Contains(err.Error(), "tcpdump -i any") {
		t.Errorf("error %v", err)
	}
	_, err = replay.New("x.pcap", bytes.NewReader(pcapFile(binary.LittleEndian, 1, 101, nil)), 0)
	if err == nil || !strings.Contains(err.Error(), "x.pcap: it has no Ethernet frames, only Raw") {
		t.Errorf("error %v", err)
	}
}

func TestNotCaptures(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"empty":       {"", "empty"},
		"short":       {"\xd4\xc3", "ends in the middle"},
		"text":        {"hello world", "neither a pcap nor a pcapng"},
		"gzip only":   {"\x1f\x8b", "gzip"},
		"empty gzip":  {string(packed(nil)), "empty"},
		"short pcap":  {"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", "ends in the middle"},
		"pcap 1.0":    {"\xd4\xc3\xb2\xa1\x01\x00\x00\x00" + strings.Repeat("\x00", 12) + "\x01\x00\x00\x00", "version"},
		"order magic": {"\x0a\x0d\x0d\x0a" + strings.Repeat("\x00", 24), "byte order"},
	} {
		if _, err := replay.New("FILE", strings.NewReader(c.file), 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	if _, err := replay.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("error %v for a directory", err)
	}
	if _, err := replay.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v for no file", err)
	}
	s := source(t, pcapFile(binary.BigEndian, 1, 1, nil))
	if _, err := s.First(); err != io.EOF {
		t.Errorf("error %v for a capture without packets", err)
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pcap")
	if err := os.WriteFile(path, pcapFile(binary.LittleEndian, 1, 1, sample), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := replay.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s.In = 0
	got, err := drain(t, s, 64)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, sample)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
