package scheduler

// ovf, overflow, fills the destination of the highest weight until it has more active connections
// than that, then the next. UDP is never active, so it never flows over. Source:
// net/netfilter/ipvs/ip_vs_ovf.c.
func newOVF(_ Options, list []Destination) (Scheduler, error) {
	return newLeast("ovf", byRoom, list)
}
