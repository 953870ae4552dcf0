package ring

import (
	"net/netip"
	"testing"
)

func manyVIPs(n int) (out []netip.Addr) {
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{203, byte(i >> 12), byte(i >> 4), byte(i << 4)})) // gaps between all of them
	}
	return out
}

// BenchmarkFilter10000 is the time in which the filter for 10,000 VIPs is written.
func BenchmarkFilter10000(b *testing.B) {
	vips := manyVIPs(10000)
	for b.Loop() {
		if _, err := vipFilter(vips, maxProgram); err != nil {
			b.Fatal(err)
		}
	}
}
