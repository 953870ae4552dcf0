package scheduler

import (
	"net/netip"
)

// None is the result of Schedule if no destination is available.
const None = -1

// A Destination is one realserver of a service.
type Destination struct {
	ID         uint32     // unique within a service; constant for the life of the destination
	Addr       netip.Addr // RIP
	Port       uint16     // as configured; 0 for a service of all ports
	Weight     int32      // 0 to 65535; 0 is quiesced: no new flows
	LastWeight int32      // last Weight other than 0, or 0 if there was none (used by mh)
	Load       *Load      // shared by all workers; never nil
	// Ramp is the share of a destination during slow start, in thousandths (1 to 999); 0 is the
	// full share. lc, wlc, sed, nq, lblc and lblcr use it: without it, these schedulers would give
	// a new destination all new connections.
	Ramp int32
}

// Op is a kind of change to a list of destinations.
type Op uint8

// The changes that ipvsadm can make to the destinations of a service.
const (
	Add    Op = iota // -a: Weight is the new weight
	Remove           // -d: Old is the weight it had
	Edit             // -e: Old and Weight
)

// A Change is one step from one list of destinations to the next. The order of changes matters: wrr
// restarts its cycle with each change.
type Change struct {
	Op          Op
	ID          uint32
	Old, Weight int32
}

// A Request describes a new flow to a scheduler. Addresses are unmapped: an IPv4 address is in IPv4
// form.
type Request struct {
	Client     netip.Addr // source of the packet
	Virtual    netip.Addr // destination of the packet: the VIP
	ClientPort uint16     // 0 if the protocol has no ports
	Now        int64      // nanoseconds of a monotonic clock (ages the caches of lblc and lblcr)
}

// Flags change how sh and mh behave (ipvsadm -b).
type Flags uint8

// The values are the kernel's IP_VS_SVC_F_SCHED1 to SCHED3, shifted down by three (linux/ip_vs.h).
const (
	Fallback Flags = 1 << iota // sh-fallback, mh-fallback: look on when the first choice cannot take the flow
	Port                       // sh-port, mh-port: hash the client's port too
	Flag3                      // flag-3: no scheduler uses it, ipvsadm accepts it
)

// Options of a scheduler. The zero value has the kernel's defaults.
type Options struct {
	Flags Flags
	// TableSize is the size of mh's table: 0 for the kernel's 4093, or a prime from 251 to 131071
	// such as 65537.
	TableSize int
	// Seed of twos' random numbers; equal seeds give equal choices.
	Seed uint64
	// Expiration is the idle time of lblc's and lblcr's entries in nanoseconds; 0 for the kernel's
	// 24 hours.
	Expiration int64
}

// A Scheduler chooses destinations for one service on one worker. Build creates it. It must not be
// used concurrently.
type Scheduler interface {
	// Name as in ipvsadm -s.
	Name() string

	// Schedule returns the index of the chosen destination in the list given to Build, or None. It
	// does not allocate.
	Schedule(r *Request) int

	// Fork returns an instance for another worker. The instances share only immutable tables. Fork
	// must be called before the instance is in use.
	Fork() Scheduler

	// Take takes over the state of the instance that this one replaces on the same worker: cursors,
	// current weights and caches. It applies the changes given to Build one by one. prev is nil if
	// the service is new. An instance of another algorithm (ipvsadm -E -s) counts as nil. The
	// worker calls Take once, before the first Schedule. prev must not be used afterwards.
	Take(prev Scheduler)
}

// ReadsRequest reports whether the choice of s depends on the request. If not, an empty Request is
// sufficient.
func ReadsRequest(s Scheduler) bool {
	switch s.(type) {
	case *rr, *wrr, *least, *nq, *twos:
		return false
	}
	return true
}
