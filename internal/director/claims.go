package director

import (
	"net/netip"
	"time"

	"shunt/forwarder/frame"
)

// claim is a VIP that a MAC claims.
type claim struct {
	vip netip.Addr
	mac frame.MAC
}

// Bounds of what is told of claims: a MAC is easily forged, and a flood of them is neither to fill the memory nor the log.
const (
	warnAgain  = time.Minute // a claim is not spoken of again for so long
	mostClaims = 64          // nor are more than so many
)

// claims remembers which claims were told. It is not safe for several goroutines.
type claims struct {
	told   map[claim]time.Time
	untold int       // since the last time that this was told
	last   time.Time // when it was
}

// tell reports whether a claim is to be told, and how many others were not told because there are too many; 0 if that need
// not be told now.
func (c *claims) tell(what claim, now time.Time) (tell bool, untold int) {
	if at, ok := c.told[what]; ok && now.Sub(at) < warnAgain {
		return false, 0
	}
	if len(c.told) >= mostClaims {
		for k, at := range c.told {
			if now.Sub(at) >= warnAgain {
				delete(c.told, k)
			}
		}
	}
	if len(c.told) >= mostClaims {
		if c.untold++; now.Sub(c.last) < warnAgain {
			return false, 0
		}
		untold, c.untold, c.last = c.untold, 0, now
		return false, untold
	}
	if c.told == nil {
		c.told = map[claim]time.Time{}
	}
	c.told[what] = now
	return true, 0
}
