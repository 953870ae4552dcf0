package scheduler

import (
	"net/netip"
)

// None is what Schedule returns if no destination can take the flow.
const None = -1

// A Destination is one realserver of a service, as a scheduler sees it.
type Destination struct {
	ID         uint32     // never two of one service alike; stays with the destination for its life
	Addr       netip.Addr // RIP
	Port       uint16     // as configured; 0 for a service of all ports
	Weight     int32      // 0 to 65535; 0 means quiesced: no new flows
	LastWeight int32      // the last Weight that was not 0, or 0 if it never was another (Maglev keeps its place by it)
	Load       *Load      // shared by all workers; never nil
	// Ramp is how many thousandths of its share a destination is to have while it starts slowly (1 to 999); 0 is all. lc, wlc,
	// sed, nq, lblc and lblcr heed it: those that would give a newcomer without connections all new ones.
	Ramp int32
}

// Op is a kind of change to the list of destinations.
type Op uint8

// The changes that ipvsadm can make to the destinations of a service.
const (
	Add    Op = iota // -a: Weight is the new weight
	Remove           // -d: Old is the weight it had
	Edit             // -e: Old and Weight
)

// A Change is one step from one list of destinations to the next. Order matters: wrr starts its cycle anew with each.
type Change struct {
	Op          Op
	ID          uint32
	Old, Weight int32
}

// A Request is what a scheduler may know of a new flow. Addresses are unmapped (an IPv4 address is IPv4).
type Request struct {
	Client     netip.Addr // source of the packet
	Virtual    netip.Addr // destination of the packet: the VIP
	ClientPort uint16     // 0 if the protocol has none
	Now        int64      // nanoseconds of any clock that does not step back (lblc and lblcr age their caches by it)
}

// Flags change how sh and mh behave (ipvsadm -b).
type Flags uint8

// The values are the kernel's IP_VS_SVC_F_SCHED1 to SCHED3, shifted down by three (linux/ip_vs.h).
const (
	Fallback Flags = 1 << iota // sh-fallback, mh-fallback: look on when the first choice cannot take the flow
	Port                       // sh-port, mh-port: hash the client's port too
	Flag3                      // flag-3: no scheduler uses it, ipvsadm accepts it
)

// Options of a scheduler. The zero value is the kernel's default.
type Options struct {
	Flags Flags
	// TableSize is the size of mh's table: 0 for the kernel's 4093, or a prime from 251 to 131071 such as 65537.
	TableSize int
	// Seed of twos' random numbers; equal seeds give equal choices.
	Seed uint64
	// Expiration is the idle time of lblc's and lblcr's entries in nanoseconds; 0 for the kernel's 24 hours.
	Expiration int64
}

// A Scheduler chooses destinations for one service and one worker. It is made by [Build] and used by one goroutine.
type Scheduler interface {
	// Name as in ipvsadm -s.
	Name() string

	// Schedule returns the index of the chosen destination in the list given to Build, or None. It does not allocate.
	Schedule(r *Request) int

	// Fork returns an instance for another worker, which shares what is immutable (the tables) and nothing else. It is
	// called before the instance is in use.
	Fork() Scheduler

	// Take carries over the state of the instance that this one replaces on the same worker: cursors, current
	// weights, caches, following the changes given to Build one by one. prev is nil when the service is new, and may be
	// another algorithm's (ipvsadm -E -s), which counts as nil. Take is called once, before the first Schedule, on the
	// worker, and prev is not used again.
	Take(prev Scheduler)
}

// ReadsRequest reports whether what s chooses depends on the request; to others an empty one may be given.
func ReadsRequest(s Scheduler) bool {
	switch s.(type) {
	case *rr, *wrr, *least, *nq, *twos:
		return false
	}
	return true
}
