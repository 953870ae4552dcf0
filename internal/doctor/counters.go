package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"shunt/internal/figures"
)

// checkCounters looks at what the running director has counted since its start.
func (f *facts) checkCounters(r *Report) {
	if f.status == nil {
		return
	}
	before := len(r.Findings)
	c, v := f.status.Counters, f.status.Verdicts
	names := make([]string, 0, len(c))
	for name := range c {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := c[name]
		leg, isLeg := strings.CutPrefix(name, "leg.")
		switch {
		case n == 0:
		case isLeg && strings.HasSuffix(name, ".ring_full"):
			leg = strings.TrimSuffix(leg, ".ring_full")
			r.find(Warning, "ring-full", "the ring of leg "+leg+" was full: frames were lost before the director saw them",
				fmt.Sprintf("%s is %d, %s is %d, ring.slots is %d", name, n, "leg."+leg+".received", c["leg."+leg+".received"], f.cfg.Ring.Slots),
				"increase ring.slots or workers, or set busy: latency; check that LRO is off")
		case isLeg && strings.HasSuffix(name, ".truncated"):
			r.find(Warning, "slots", "frames larger than a ring slot arrived faster than they could be fetched",
				fmt.Sprintf("%s is %d, ring.slot_size is %d", name, n, f.cfg.Ring.SlotSize), "increase ring.slot_size")
		}
	}
	f.checkConflicts(r)
	f.checkConfinement(r)
	if n := v["table full"] + c["table.evicted"]; n > 0 {
		r.find(Warning, "table-full", "the connection table was full",
			fmt.Sprintf("table.evicted is %d, table full is %d; of %d entries %d are in use", c["table.evicted"], v["table full"], f.status.Capacity, f.status.Flows),
			"increase flows; in a flood, set ipvs: {drop_entry: 1}")
	}
	for _, loss := range []struct{ id, verdict, remedy string }{
		{"too-big", "send: too big", "give all legs the MTU of the largest"},
		{"above-mtu", "above MTU", "give all legs the MTU of the largest; the sender is not notified, because its packets may be fragmented"},
		{"queue-full", "send: queue full", "use a faster link or larger device queues (ethtool -G)"},
		{"loop", "loop guard", "a realserver sends to a VIP: check that it has the VIP on lo, that ip_forward is off there, and whether it is itself a client"},
		{"vlan", "other VLAN", "vlan: of the leg must be the tag of the frames; 0 is none"},
	} {
		if n := v[loss.verdict]; n > 0 {
			r.find(Warning, loss.id, "frames lost: "+loss.verdict, fmt.Sprintf("the verdict %q was given %s", loss.verdict, times(n)), loss.remedy)
		}
	}
	if len(r.Findings) == before {
		r.well("the director's counters: no frame was lost, and no other host claimed a VIP recently")
	}
}

// checkConflicts tells of those who claimed a VIP lately; what is long over only stays in the counters.
func (f *facts) checkConflicts(r *Report) {
	claims := map[string][]string{} // by leg
	for _, c := range f.status.RecentConflicts() {
		who := c.MAC
		if c.Realserver != "" {
			who += " (realserver " + c.Realserver + ")"
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

// checkConfinement tells what the running director has left of its privileges, if it gave any up. A kernel that cannot restrict
// files or system calls is no fault of anybody's.
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
