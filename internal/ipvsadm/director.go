// Package ipvsadm is the command line of ipvsadm 1.31: the same options, messages, exit codes and listings, to the byte,
// for a director that is not the kernel. Scripts, ldirectord and people's fingers need not know the difference.
//
// What it asks and changes is behind Director, so that nothing here knows how a director is reached. Comments that cite
// ipvsadm.c, libipvs.c, config_stream.c or popt.c say where a behaviour comes from, as some of it is surprising.
package ipvsadm

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

// A Director is what the kernel's IPVS is to ipvsadm. Run uses it from one goroutine.
//
// An error that the kernel would answer with a number is, or wraps, an Errno: ipvsadm has words of its own for many. The
// text of any other error is printed as it is.
type Director interface {
	// Info tells that the director is there. Run asks for it first, as ipvsadm opens its netlink socket first.
	Info() (Info, error)
	// Services lists all services; they and their destinations are in the order that --nosort shows, which for the
	// destinations is that of the schedulers: last added first.
	Services() ([]ServiceEntry, error)
	// Connections calls fn for each entry of the connection table until fn returns false.
	Connections(fn func(Connection) bool) error
	Timeouts() (Timeouts, error)
	// Totals are the counters of all services since the start, those of removed services too.
	Totals() (counts, rates Counts, err error)
	// Apply makes the changes in their order, all or, if it returns an error, none of them.
	Apply(changes []Change) error
}

// A Syncer is a Director that also synchronizes connections with other directors (--start-daemon).
type Syncer interface {
	Daemons() ([]Daemon, error)
	StartDaemon(Daemon) error
	StopDaemon(Daemon) error
}

// An Errno is an error number of the kernel. It is a type of its own so that the ENOENT of a missing control socket is not
// taken for a missing scheduler.
type Errno syscall.Errno

func (e Errno) Error() string { return syscall.Errno(e).Error() }

// A Refusal is an Errno of which the director knows the reason, on one line. It is told behind ipvsadm's words.
type Refusal struct {
	Errno  Errno
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }
func (r *Refusal) Unwrap() error { return r.Errno }

// An UnknownMark is the answer to changes of a firewall-mark service that the director cannot have: the kernel has marks
// from netfilter, whereas a director without it has those that its configuration gives to addresses and ports.
type UnknownMark uint32

func (m UnknownMark) Error() string {
	return fmt.Sprintf("firewall mark %d is not defined in the director's configuration", uint32(m))
}

// Info is what the listings begin with.
type Info struct {
	Version [3]int // of IPVS
	Size    int    // of the connection table
}

// A Protocol is a number of IP's.
type Protocol uint8

// The protocols of services.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String names the protocol as ipvsadm's protocol_name does.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return "?"
}

// A Service is a virtual service. Mark and V6, or Protocol, Addr and Port identify it.
type Service struct {
	Mark     uint32 // of a firewall-mark service, else 0
	V6       bool   // family of a firewall-mark service
	Protocol Protocol
	Addr     netip.Addr
	Port     uint16

	Scheduler  string
	Flags      Flags
	Persistent bool
	Timeout    time.Duration // of persistence
	// Netmask is of clients that stay together: a mask of IPv4, such as 0xffffff00, or the length of a prefix of IPv6.
	// ipvsadm takes any mask of IPv4, whether it is that of a prefix or not.
	Netmask   uint32
	Engine    string // of persistence (--pe)
	OnePacket bool
}

// Flags are the scheduler's (-b). What they mean is the scheduler's affair; ipvsadm has names for those of sh and mh.
type Flags uint8

// The flags.
const (
	Flag1 Flags = 1 << iota // sh-fallback, mh-fallback
	Flag2                   // sh-port, mh-port
	Flag3
)

// is6 reports whether the service is of IPv6.
func (s *Service) is6() bool {
	if s.Mark != 0 {
		return s.V6
	}
	return s.Addr.Is6()
}

// SameAs reports whether both are the same service, whatever its settings are.
func (s *Service) SameAs(o *Service) bool {
	if s.Mark != 0 || o.Mark != 0 {
		return s.Mark == o.Mark && s.V6 == o.V6
	}
	return s.Protocol == o.Protocol && s.Addr == o.Addr && s.Port == o.Port
}

// A Destination is a realserver of a service. Addr and Port identify it.
type Destination struct {
	Addr   netip.Addr
	Port   uint16
	Weight int32
	Upper  int32 // thresholds, 0 for none
	Lower  int32
}

// Counts are connections, packets and bytes: totals, or what there is of them in a second.
type Counts struct {
	Conns, InPackets, OutPackets, InBytes, OutBytes uint64
}

// A ServiceEntry is a service with what the director knows of it.
type ServiceEntry struct {
	Service
	Counts, Rates Counts
	Destinations  []DestinationEntry
}

// A DestinationEntry is a destination with what the director knows of it.
type DestinationEntry struct {
	Destination
	Active, Inactive, Persistent uint32 // connections, connections, templates
	Counts, Rates                Counts
}

// A Connection is an entry of the connection table.
type Connection struct {
	Protocol    string // TCP, UDP, SCTP; IP for the template of a firewall-mark service
	State       string
	Client      netip.AddrPort
	Virtual     netip.AddrPort // 0.0.0.N:0 for the template of firewall mark N
	Destination netip.AddrPort
	Expires     time.Duration
	Engine      string // the persistence engine and its data, if there is one
	EngineData  string
}

// Timeouts are those that --set changes. In a change 0 leaves one as it is.
type Timeouts struct {
	TCP, TCPFin, UDP time.Duration
}

// An Op is what a change does.
type Op int

// The changes.
const (
	AddService    Op = iota + 1
	EditService      // all settings of Service replace those that it had
	DeleteService    // with its destinations
	Flush            // all services
	ZeroService      // the counters of Service
	ZeroAll
	AddDestination // at the head of the service's list
	EditDestination
	DeleteDestination
	SetTimeouts
)

// A Change is one step of a transaction. Which fields count depends on Op.
type Change struct {
	Op          Op
	Service     Service
	Destination Destination
	Timeouts    Timeouts
}

// A Daemon synchronizes connections. Fields that are 0 are for the director to choose.
type Daemon struct {
	Backup    bool
	Interface string
	SyncID    int
	MaxLen    int
	Group     netip.Addr
	Port      int
	TTL       int
}
