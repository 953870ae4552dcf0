package scheduler

// sed chooses the destination with the shortest expected delay: the least (active connections + 1)
// for its weight. Source: net/netfilter/ipvs/ip_vs_sed.c.
func newSED(_ Options, list []Destination) (Scheduler, error) {
	return newLeast("sed", byDelay, list)
}
