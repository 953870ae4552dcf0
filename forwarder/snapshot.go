package forwarder

import (
	"sync/atomic"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// A snapshot is all that the datapath reads of the configuration. Control makes one for each
// transaction, and each worker adopts it between two batches: it takes over what is flat, and keeps
// services and destinations in arrays of its own, in which only the edits of the transaction are
// carried out. Ids of services, destinations and VIPs keep their meaning from one snapshot to the
// next, as long as a flow may refer to them.
type snapshot struct {
	vips     vipTable
	ports    portTable
	services []service // of one worker, by id; unused ids have list nil and present false
	dests    []dest    // likewise
	legs     []Leg
	guard    macSet       // likewise
	vipAddrs []frame.Addr // by number; the zero Addr for the number of a mark
	settings Settings
	timeouts *flow.Timeouts

	edits *edits // what makes it of the one before; nil once it is adopted
}

// edits are what a transaction changed.
type edits struct {
	services    []serviceEdit
	numServices int // ids that there are now
	dests       []destEdit
	numDests    int
	fresh       []uint32 // destinations whose id is new: their counters start at zero
	anew        []uint16 // likewise services; in order
	macs        []macEdit
	gone        []uint32 // with ExpireNodestConn: destinations that are not available
	beside      bool     // they are carried out beside the worker even if they are few
}

type serviceEdit struct {
	id      uint16
	takes   bool // its scheduler instances are new, and take over from those before
	service service
}

type destEdit struct {
	id   uint32
	dest dest
}

// service is what the datapath needs to know to schedule a new flow.
type service struct {
	present    bool
	persistent bool
	onePacket  bool
	hashed     bool // the scheduler names the same realserver again for the same addresses and ports
	group      bool // several matches or a mark: templates are of the group, not of a port
	all        bool // all ports: templates are of port 0
	port       uint16
	vip        uint16 // the group's number in the place of a VIP
	timeout    uint32 // persistence in ticks
	mask4      uint32
	mask6      frame.Addr
	list       []uint32              // ids of the destinations, as the schedulers count them
	sched      []scheduler.Scheduler // by worker; see Worker.scheduler
	before     scheduler.Scheduler   // from which this worker's is still to take over; nil if it has
	blind      bool                  // the scheduler does not read the request
	key        ServiceKey
}

// mask applies the persistence's netmask to a client's address.
func (s *service) mask(a frame.Addr) frame.Addr {
	if a.Is4() {
		return frame.AddrFrom4(a.V4() & s.mask4)
	}
	return frame.Addr{Hi: a.Hi & s.mask6.Hi, Lo: a.Lo & s.mask6.Lo}
}

// prefixMask returns the netmasks of a prefix length; 0 or less is a whole address.
func prefixMask(length int) (m4 uint32, m6 frame.Addr) {
	m4, m6 = ^uint32(0), frame.Addr{Hi: ^uint64(0), Lo: ^uint64(0)}
	if length <= 0 {
		return
	}
	if length < 32 {
		m4 = ^uint32(0) << (32 - length)
	}
	switch {
	case length <= 64:
		m6 = frame.Addr{Hi: ^uint64(0) << (64 - length)}
	case length < 128:
		m6.Lo = ^uint64(0) << (128 - length)
	}
	return
}

// dest is what the datapath needs to know of a destination: how to reach it and how to count it.
type dest struct {
	mac       frame.MAC
	out       frame.Leg
	available bool // still a realserver of its service
	resolved  bool // mac is known
	asked     bool // it is not, but may be within moments
	service   uint16
	vlan      uint16 // of its leg
	weight    int32
	mtu       uint32 // of its leg; the largest number if there is no limit
	load      *scheduler.Load
	templates *atomic.Int32
}
