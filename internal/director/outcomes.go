package director

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"shunt/api"
	"shunt/forwarder/frame"
)

// outcomes is what happened that is to be shown on request.
type outcomes struct {
	mu        sync.Mutex
	last      api.Reload
	conflicts map[claim]*api.Conflict
	claimants claims // who claimed VIPs, as it was logged
	rivals    claims // who answered for realservers, as it was logged
}

// claimed notes that mac claimed vip; realserver is whose MAC it is, if one of ours. The results
// are those of claims.tell.
func (o *outcomes) claimed(vip netip.Addr, mac frame.MAC, leg string, realserver netip.Addr, now time.Time) (tell bool, untold int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.conflicts[claim{vip, mac}]
	if c == nil {
		if len(o.conflicts) >= mostClaims { // anybody on the network may make them up: the oldest is forgotten
			var oldest claim
			for k, v := range o.conflicts {
				if have := o.conflicts[oldest]; have == nil || v.Last.Before(have.Last) {
					oldest = k
				}
			}
			delete(o.conflicts, oldest)
		}
		c = &api.Conflict{VIP: vip, MAC: mac.String(), First: now}
		o.conflicts[claim{vip, mac}] = c
	}
	c.Leg, c.Realserver = leg, realserver
	c.Messages++
	c.Last = now
	return o.claimants.tell(claim{vip, mac}, now)
}

// disputed reports whether a rival of a realserver is to be logged.
func (o *outcomes) disputed(what claim, now time.Time) (tell bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	tell, _ = o.rivals.tell(what, now)
	return tell
}

// claims lists the conflicts, the latest first.
func (o *outcomes) claims() []api.Conflict {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]api.Conflict, 0, len(o.conflicts))
	for _, c := range o.conflicts {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b api.Conflict) int {
		return cmp.Or(b.Last.Compare(a.Last), a.VIP.Compare(b.VIP), cmp.Compare(a.MAC, b.MAC))
	})
	return out
}

// Reread notes what became of the configuration's being read again; err is nil if it was taken.
// Reload does so itself: this is for a file that could not even be read.
func (d *Director) Reread(err error) {
	o := &d.outcomes
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last.Last, o.last.Error = time.Now(), ""
	if err != nil {
		o.last.Failures++
		o.last.Error = err.Error()
		return
	}
	o.last.Taken = o.last.Last
}

func (o *outcomes) reload() api.Reload {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}
