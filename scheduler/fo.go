package scheduler

// fo, failover, chooses the usable destination of the highest weight, the first in the list of
// equal ones. Source: net/netfilter/ipvs/ip_vs_fo.c.
func newFO(_ Options, list []Destination) (Scheduler, error) {
	return newLeast("fo", byWeight, list)
}
