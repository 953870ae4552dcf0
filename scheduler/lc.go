package scheduler

// lc chooses the destination with the least overhead, whatever its weight; the first in the list of
// equal ones. Source: net/netfilter/ipvs/ip_vs_lc.c.
func newLC(_ Options, list []Destination) (Scheduler, error) {
	return newLeast("lc", byOverhead, list)
}
