package director

import (
	"net/netip"
	"testing"
	"time"

	"shunt/forwarder/frame"
)

// However many MACs claim a VIP, only so many are remembered and told.
func TestClaimsAreBounded(t *testing.T) {
	var c claims
	vip := netip.MustParseAddr("192.0.2.1")
	now := time.Unix(1e9, 0)
	mac := func(i int) claim { return claim{vip, frame.MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}} }
	round := func(first, n int) (told, others, lines int) {
		for i := range n {
			tell, untold := c.tell(mac(first+i), now)
			if tell {
				told++
			}
			if untold > 0 {
				lines++
				others += untold
			}
		}
		return told, others, lines
	}
	if told, others, lines := round(0, 100_000); told != mostClaims || others != 1 || lines != 1 || len(c.told) != mostClaims {
		t.Errorf("of 100000 claims %d were told, %d others on %d lines; %d are remembered", told, others, lines, len(c.told))
	}
	if told, _, lines := round(0, mostClaims); told != 0 || lines != 0 {
		t.Errorf("%d claims were told again at once", told)
	}
	now = now.Add(warnAgain)
	if told, others, lines := round(200_000, 1000); told != mostClaims || others != 100_000-mostClaims || lines != 1 {
		t.Errorf("a minute later %d were told, and %d others on %d lines", told, others, lines)
	}
}
