package forwarder

import (
	"encoding/binary"
	"time"

	"shunt/forwarder/frame"
)

// The MACs that clients' frames come from, those of their routers, are no realserver's: else the
// loop guard would drop all that comes from there, after somebody forged the realserver's ARP, or
// where a router answers for realservers behind it.
const (
	clientAge   = 10 * time.Minute // how long such a MAC is remembered after its last frame
	mostClients = 256              // and how many
)

// noteClients remembers the MACs that frames to VIPs came from since it was last called. It asks
// the workers. c.mu is held.
func (c *Control) noteClients() {
	now := c.clock()
	for _, w := range c.workers {
		var seen [headerCache]header
		w.Do(func() { seen, w.headers = w.headers, [headerCache]header{} })
		for i := range seen {
			if seen[i].from != 0 {
				var b [8]byte
				binary.LittleEndian.PutUint64(b[:], seen[i].last)
				c.clients[frame.MAC(b[:6])] = now
			}
		}
	}
	for len(c.clients) > mostClients {
		var oldest frame.MAC
		at := now
		for m, t := range c.clients {
			if !t.After(at) {
				oldest, at = m, t
			}
		}
		delete(c.clients, oldest)
	}
}

// fromClients reports whether clients' frames came from a MAC lately. c.mu is held.
func (c *Control) fromClients(m frame.MAC) bool {
	at, ok := c.clients[m]
	return ok && c.clock().Sub(at) < clientAge
}

// FromClients reports whether clients' frames came from a MAC in the last ten minutes, as they come
// from their router. Such a MAC is not in the loop guard, even if it is a realserver's. It may be
// called from any goroutine.
func (c *Control) FromClients(m frame.MAC) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fromClients(m)
}
