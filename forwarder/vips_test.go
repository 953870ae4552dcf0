package forwarder

import (
	"math/rand/v2"
	"testing"

	"shunt/forwarder/frame"
)

// TestVIPTable compares the table with a map, for any number of VIPs of both families, with
// addresses beside each other, and one that is all zeros.
func TestVIPTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	address := func() frame.Addr {
		switch r.IntN(4) {
		case 0:
			return frame.Addr{Hi: 0x20010db8 << 32, Lo: r.Uint64N(2000)}
		case 1:
			return frame.AddrFrom4(r.Uint32N(4000)) // 0.0.0.0 too
		}
		return frame.AddrFrom4(10<<24 + r.Uint32N(4000)*uint32(1+r.IntN(2)*255))
	}
	for _, n := range []int{0, 1, 2, 3, 4, 5, 8, 9, 100, 1000, 5000} {
		want := map[frame.Addr]uint32{}
		var vips []vipSlot
		for len(vips) < n {
			if a := address(); want[a] == 0 {
				want[a] = uint32(len(vips) + 1)
				vips = append(vips, vipSlot{a, uint32(len(vips) + 1)})
			}
		}
		table := newVIPTable(vips)
		if 2*n > len(table.four)+len(table.slots) {
			t.Errorf("%d VIPs: room for %d and %d", n, len(table.four), len(table.slots))
		}
		for i := range 20_000 {
			a := address()
			if i < n {
				a = vips[i].addr
			}
			if id, ok := table.find(a); ok != (want[a] != 0) || ok && uint32(id)+1 != want[a] {
				t.Fatalf("%d VIPs: %v is found %v as %d, want %d", n, a, ok, id, want[a])
			}
		}
	}
}
