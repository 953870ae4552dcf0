package replay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
)

func TestSink(t *testing.T) {
	var out bytes.Buffer
	sink, err := replay.NewSink(&out)
	if err != nil {
		t.Fatal(err)
	}
	var look replay.Discard
	tagged := payload(60, 7)
	lost := replay.Tee{sink, &look}.Send([]frame.Frame{
		{Buf: payload(60, 1), Time: 1_700_000_000_123_456_789, Wire: 60},
		{Buf: append(make([]byte, 10), payload(70, 2)...), Head: 10, Time: 1_700_000_000_123_456_790, Wire: 70},
		{Buf: tagged, Time: 1_700_000_001_000_000_000, Wire: 60, TPID: 0x8100, TCI: 7},
		{Buf: payload(40, 3), Time: 1_700_000_001_000_000_000, Wire: 1500},
	})
	if err := sink.Flush(); err != nil || lost.Total() != 0 {
		t.Fatal(err, lost)
	}
	got, err := drain(t, source(t, out.Bytes()), 64)
	if err != nil {
		t.Fatal(err)
	}
	withTag := append(append(bytes.Clone(tagged[:12]), 0x81, 0, 0, 7), tagged[12:]...)
	equal(t, got, []record{
		{1_700_000_000_123_456_789, 0, payload(60, 1)}, {1_700_000_000_123_456_790, 0, payload(70, 2)},
		{1_700_000_001_000_000_000, 0, withTag}, {1_700_000_001_000_000_000, 1500, payload(40, 3)},
	})
	if sink.Frames != 4 || sink.Bytes != 60+70+64+40 || look.Frames != 4 || look.Bytes != 60+70+60+40 {
		t.Errorf("counted %d frames, %d bytes; %+v", sink.Frames, sink.Bytes, look)
	}
}

// full is a disk without room.
type full struct{ room int }

var errFull = errors.New("no room")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestSinkFull(t *testing.T) {
	sink, err := replay.NewSink(&full{1 << 17})
	if err != nil {
		t.Fatal(err)
	}
	batch := []frame.Frame{{Buf: payload(60_000, 1), Wire: 60_000}}
	lost := uint32(0)
	for range 5 {
		lost += sink.Send(batch).Refused
	}
	if lost == 0 || lost == 5 || !errors.Is(sink.Err(), errFull) || !errors.Is(sink.Flush(), errFull) {
		t.Errorf("%d lost, error %v", lost, sink.Err())
	}
}

// What a pcap file cannot hold is not written with another time.
func TestSinkLate(t *testing.T) {
	sink, err := replay.NewSink(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	late := frame.Frame{Buf: payload(60, 1), Wire: 60, Time: 1 << 32 * second}
	if lost := sink.Send([]frame.Frame{late}); lost.Refused != 1 || !strings.Contains(sink.Flush().Error(), "2106") {
		t.Errorf("%+v lost, error %v", lost, sink.Err())
	}
}

func traffic(n int) []record {
	records := make([]record, n)
	for i := range records {
		records[i] = record{1_700_000_000*second + int64(i)*1000, 0, payload(60+i%7*200, byte(i))}
	}
	return records
}

// Reading allocates nothing for a frame once the buffers have grown, and writing neither.
func TestAllocations(t *testing.T) {
	n := &ng{order: binary.LittleEndian}
	n.section(1, 0)
	n.iface(1, 0)
	for _, r := range traffic(20_000) {
		n.enhanced(0, uint64(r.time/1000), r)
	}
	for name, file := range map[string][]byte{"pcap": pcapFile(binary.LittleEndian, 1, 1, traffic(20_000)), "pcapng": n.b} {
		s := source(t, file)
		sink, err := replay.NewSink(io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		batch := make([]frame.Frame, 64)
		step := func() {
			n, _, err := s.Next(batch)
			if n != 64 || err != nil {
				t.Fatal(n, err)
			}
			sink.Send(batch[:n])
		}
		for range 10 {
			step()
		}
		if a := testing.AllocsPerRun(200, step); a > 0 {
			t.Errorf("%s: %v allocations a batch", name, a)
		}
	}
}

// BenchmarkSource reads a capture of 100,000 packets, and copies it.
func BenchmarkSource(b *testing.B) {
	n := &ng{order: binary.LittleEndian}
	n.section(1, 0)
	n.iface(1, 0)
	records := traffic(100_000)
	for _, r := range records {
		n.enhanced(0, uint64(r.time/1000), r)
	}
	pcap := pcapFile(binary.LittleEndian, 1, 1, records)
	for _, c := range []struct {
		name string
		file []byte
		copy bool
	}{{"pcap", pcap, false}, {"pcapng", n.b, false}, {"gzip", packed(pcap), false}, {"copy", pcap, true}} {
		b.Run(c.name, func(b *testing.B) {
			batch := make([]frame.Frame, 64)
			b.ReportAllocs()
			frames := 0
			for b.Loop() {
				s := source(b, c.file)
				sink, err := replay.NewSink(io.Discard)
				if err != nil {
					b.Fatal(err)
				}
				for {
					n, _, err := s.Next(batch)
					if err != nil {
						break
					}
					frames += n
					if c.copy {
						sink.Send(batch[:n])
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(frames), "ns/frame")
		})
	}
}
