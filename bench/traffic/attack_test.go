package traffic

import (
	"net/netip"
	"testing"

	"shunt/forwarder/frame"
)

// TestAttacks: each frame is what its attack says, and whole: a director that drops it for a wrong
// checksum would withstand anything.
func TestAttacks(t *testing.T) {
	for _, a := range Attacks(Target{VIP: netip.MustParseAddr("192.0.2.100"), Victim: netip.MustParseAddr("198.51.100.1"), Ports: [2]uint16{2000, 2009}}) {
		seen := map[frame.Tuple]bool{}
		for n := range 8000 {
			b := make([]byte, a.Length())
			a.Next(b)
			f := frame.Frame{Buf: b, Wire: int32(len(b))}
			var p frame.Packet
			got := frame.Parse(&f, &p)
			switch {
			case a.Name == "who-has":
				if got != frame.NotIP {
					t.Fatalf("%s: frame %d is %v", a.Name, n, got)
				}
				continue
			case a.Name == "pings":
				if p.Proto != frame.ICMP || sum(b[34:60], 0) != 0xffff {
					t.Fatalf("%s: frame %d is %+v", a.Name, n, p)
				}
			case got != frame.OK && !p.Fragment:
				t.Fatalf("%s: frame %d: %v", a.Name, n, got)
			case p.Proto == frame.TCP && ^sum(b[34:54], 6+20+uint32(sum(b[26:34], 0))) != 0:
				t.Fatalf("%s: frame %d has a wrong checksum", a.Name, n)
			case p.Proto == frame.UDP && !p.Fragment && ^sum(b[34:58], 17+24+uint32(sum(b[26:34], 0))) != 0:
				t.Fatalf("%s: frame %d has a wrong checksum", a.Name, n)
			}
			seen[p.Tuple] = true
		}
		if want := map[string]int{"who-has": 0, "forged RST": 10, "forged FIN": 10, "forged, no flags": 10, "UDP, two packets": 4000,
			"SYN and bare ACK": 4000, "SYN, ACK and FIN": 2667, "forged conversations": 2000}[a.Name]; want != 0 && len(seen) != want || want == 0 && a.Name != "who-has" && len(seen) != 8000 {
			t.Errorf("%s: %d tuples", a.Name, len(seen))
		}
	}
}
