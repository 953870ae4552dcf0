package traffic

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Every frame is what a TCP stack would take: gopacket reads it and computes the same checksums.
func TestFramesAreValid(t *testing.T) {
	for _, length := range []int{60, 61, 1514} {
		s := Default()
		s.Length, s.Flows, s.SYN = length, 5000, 0.5
		f, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, length)
		for range 12_000 {
			f.Next(b)
			p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
			ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			tcp, _ := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
			if ip == nil || tcp == nil {
				t.Fatalf("not a TCP segment: %v", p)
			}
			if s := sum(b[ipAt:tcpAt], 0); s != 0xffff {
				t.Fatalf("the sum of the IP header is %#x", s)
			}
			want := tcp.Checksum
			if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
				t.Fatal(err)
			}
			got, err := tcp.ComputeChecksum()
			if err != nil {
				t.Fatal(err)
			}
			// Of a valid segment gopacket's sum, which includes the field itself, is zero; of one
			// without the field it is the field.
			if got != 0 && got != want {
				t.Fatalf("TCP checksum %#x, gopacket has %#x", want, got)
			}
		}
	}
}

func TestMix(t *testing.T) {
	for _, c := range []struct {
		name     string
		syn      float64
		least    int
		most     int
		zipf     float64
		skewed   bool
		distinct int // flows among the frames after the first of each flow
	}{
		{"established only", 0, 0, 0, 0, false, 1000},
		{"SYNs only", 1, 20_000, 20_000, 0, false, 1000},
		{"half", 0.5, 9_500, 10_500, 0, false, 1000},
		{"popular ones", 0, 0, 0, 1.2, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Default()
			s.Flows, s.SYN, s.Zipf = 1000, c.syn, c.zipf
			f, err := New(s)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, s.Length)
			for i := range s.Flows {
				f.Next(b)
				if b[tcpAt+13] != flagSYN {
					t.Fatalf("frame %d is not the SYN of a flow", i)
				}
			}
			syns, seen, most := 0, map[uint64]int{}, 0
			for range 20_000 {
				f.Next(b)
				if b[tcpAt+13] == flagSYN {
					syns++
				}
				k := uint64(binary.BigEndian.Uint32(b[ipAt+12:]))<<16 | uint64(binary.BigEndian.Uint16(b[tcpAt:]))
				seen[k]++
				most = max(most, seen[k])
			}
			if syns < c.least || syns > c.most {
				t.Errorf("%d SYNs of 20000: want %d to %d", syns, c.least, c.most)
			}
			if c.distinct != 0 && len(seen) != c.distinct {
				t.Errorf("%d flows: want %d", len(seen), c.distinct)
			}
			if skewed := most > 1000; skewed != c.skewed {
				t.Errorf("the most popular of 1000 flows has %d of 20000 frames", most)
			}
		})
	}
}

// The same seed gives the same frames.
func TestSeed(t *testing.T) {
	all := func(seed uint64) []byte {
		s := Default()
		s.Flows, s.SYN, s.Zipf, s.Seed = 100, 0.3, 1.5, seed
		f, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 0, 500*s.Length)
		b := make([]byte, s.Length)
		for range 500 {
			f.Next(b)
			out = append(out, b...)
		}
		return out
	}
	if cmp.Diff(all(1), all(1)) != "" {
		t.Error("the same seed gives other frames")
	}
	if cmp.Diff(all(1), all(2)) == "" {
		t.Error("another seed gives the same frames")
	}
}

func TestSpecErrors(t *testing.T) {
	for want, change := range map[string]func(*Spec){
		"frames of 59 bytes":   func(s *Spec) { s.Length = 59 },
		"frames of 1515 bytes": func(s *Spec) { s.Length = 1515 },
		"0 flows":              func(s *Spec) { s.Flows = 0 },
		"a share of 1.5 SYNs":  func(s *Spec) { s.SYN = 1.5 },
		"a Zipf exponent of 1": func(s *Spec) { s.Zipf = 1 },
		"must be IPv4":         func(s *Spec) { s.VIP = netip.IPv6Loopback() },
	} {
		s := Default()
		change(&s)
		if _, err := New(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	s := Default()
	s.SYN, s.Zipf = 0.1, 1.1
	f, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, s.Length)
	if n := testing.AllocsPerRun(1000, func() { f.Next(b) }); n != 0 {
		t.Errorf("%g allocations a frame", n)
	}
}
