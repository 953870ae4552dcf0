package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/figures"
)

// checkCounters looks at what the running director has counted since its start.
func (f *facts) checkCounters(r *Report) {
	if f.status == nil {
		return
	}
	before := len(r.Findings)
	for i := range f.status.Legs {
		f.checkRing(r, &f.status.Legs[i])
	}
	f.checkConflicts(r)
	f.checkConfinement(r)
	full, evicted := f.verdict(forwarder.TableFull), f.status.Table.Evicted
	if full+evicted > 0 {
		r.find(Warning, "table-full", "the connection table was full",
			fmt.Sprintf("%d entries were evicted, the verdict \"table full\" was given %s; of %d entries %d are in use", evicted, times(full), f.status.Capacity, f.status.Flows),
			"increase flows; in a flood, set ipvs: {drop_entry: 1}")
	}
	for _, loss := range []struct {
		id      string
		verdict forwarder.Verdict
		remedy  string
	}{
		{"too-big", forwarder.SendTooBig, "give all legs the MTU of the largest"},
		{"above-mtu", forwarder.AboveMTU, "give all legs the MTU of the largest; the sender is not notified, because its packets may be fragmented"},
		{"queue-full", forwarder.SendFull, "use a faster link or larger device queues (ethtool -G)"},
		{"loop", forwarder.LoopGuard, "a realserver sends to a VIP: check that it has the VIP on lo, that ip_forward is off there, and whether it is itself a client"},
		{"vlan", forwarder.WrongVLAN, "vlan: of the leg must be the tag of the frames; 0 is none"},
	} {
		if n := f.verdict(loss.verdict); n > 0 {
			r.find(Warning, loss.id, "frames lost: "+loss.verdict.String(), fmt.Sprintf("the verdict %q was given %s", loss.verdict.String(), times(n)), loss.remedy)
		}
	}
	if len(r.Findings) == before {
		r.well("the director's counters: no frame was lost, and no other host claimed a VIP recently")
	}
}

// verdict is how many frames of the running director had a verdict.
func (f *facts) verdict(v forwarder.Verdict) uint64 { return f.status.Verdicts[v.String()] }

// checkRing looks at what the rings of a leg have lost.
func (f *facts) checkRing(r *Report, l *api.Leg) {
	if l.RingFull > 0 {
		r.find(Warning, "ring-full", "the ring of leg "+l.Name+" was full: frames were lost before the director saw them",
			fmt.Sprintf("leg %s: ring_full is %d, received is %d, ring.slots is %d", l.Name, l.RingFull, l.Received, f.cfg.Ring.Slots),
			"increase ring.slots or workers, or set busy: latency; check that LRO is off")
	}
	if l.Truncated > 0 {
		r.find(Warning, "slots", "frames larger than a ring slot arrived faster than they could be fetched",
			fmt.Sprintf("leg %s: truncated is %d, ring.slot_size is %d", l.Name, l.Truncated, f.cfg.Ring.SlotSize), "increase ring.slot_size")
	}
}

// checkConflicts tells of those who claimed a VIP lately; what is long over only stays in the
// counters.
func (f *facts) checkConflicts(r *Report) {
	claims := map[string][]string{} // by leg
	for _, c := range f.status.RecentConflicts() {
		who := c.MAC
		if c.Realserver.IsValid() {
			who += " (realserver " + c.Realserver.String() + ")"
		}
		claims[c.Leg] = append(claims[c.Leg], fmt.Sprintf("%s claimed %s, last %s ago", who, c.VIP, f.status.Now.Sub(c.Last).Round(time.Second)))
	}
	for _, leg := range slices.Sorted(maps.Keys(claims)) {
		r.find(Warning, "conflicts", "another host claimed a VIP in the last minutes on leg "+leg, strings.Join(claims[leg], "; "),
			"docs/running.md, \"The ARP problem\"; this warning ends ten minutes after the last claim")
	}
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// checkConfinement tells what the running director has left of its privileges, if it gave any up. A
// kernel that cannot restrict files or system calls is no fault of anybody's.
func (f *facts) checkConfinement(r *Report) {
	c := f.status.Confinement
	if c == nil {
		return
	}
	more := slices.ContainsFunc(c.Capabilities, func(name string) bool { return name != "cap_net_admin" && name != "cap_net_raw" })
	if more || !c.NoNewPrivs {
		r.find(Warning, "privileges", "the director has more privileges than it needs", figures.Privileges(c), "see the log of its start; the packaged systemd unit grants no others")
		return
	}
	r.well("the director's privileges: it %s", figures.Privileges(c))
}
