package scheduler

// wlc chooses the destination with the least overhead for its weight; the first in the list of
// equal ones. Source: net/netfilter/ipvs/ip_vs_wlc.c.
func newWLC(_ Options, list []Destination) (Scheduler, error) {
	return newLeast("wlc", byWeightedOverhead, list)
}
