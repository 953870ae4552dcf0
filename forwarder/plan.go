package forwarder

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// A Leg is one interface of the director, as the datapath needs to know it.
type Leg struct {
	Name string
	MAC  frame.MAC
	VLAN uint16 // 0: untagged
	TPID uint16 // of the VLAN's tags; 0 is 0x8100 (802.1Q), and 0x88a8 is 802.1ad
	// MTU is the length of the longest IP packet that leaves by the leg, in bytes; 0 is no limit,
	// or not known.
	MTU uint32
	// AnyMAC takes frames to any MAC: for captures, which were made at another host.
	AnyMAC bool
}

// tpid is the type of the leg's tags.
func (l *Leg) tpid() uint16 {
	if l.TPID == 0 {
		return frame.EtherTypeVLAN
	}
	return l.TPID
}

// A Match is a range of ports of one address and protocol.
type Match struct {
	Addr        netip.Addr
	Proto       frame.Proto
	First, Last uint16 // 0 to 65535 is "all ports", IPVS's port 0
}

// allPorts reports whether the match is IPVS's port 0.
func (m Match) allPorts() bool { return m.First == 0 && m.Last == 65535 }

// A Service is a virtual service without its realservers.
type Service struct {
	// Name is for people. It identifies a service that has several matches and no mark.
	Name string
	// Mark is the number of a group (ipvsadm -f), 0 if there is none.
	Mark uint32
	// V6 is the family of a group's realservers; of others it follows from the address.
	V6 bool
	// Matches are what the service answers for. One match of one port or of all ports is what
	// ipvsadm -t, -u and --sctp-service make; several have one persistence together.
	Matches []Match

	Scheduler string
	Options   scheduler.Options

	// Persistence is the time for which a client stays with its realserver, 0 for none.
	Persistence time.Duration
	// MaskBits is the length of the prefix of client addresses that share a template; 0 means a
	// whole address.
	MaskBits int
	// SlowStart is the time over which a realserver that comes (back) gets its share of new flows,
	// growing from little to all, with the schedulers that heed it: see scheduler.Destination. 0 is
	// at once.
	SlowStart time.Duration
	// OnePacket schedules each UDP datagram afresh.
	OnePacket bool
}

// equal reports whether both are the same in everything.
func (s *Service) equal(o *Service) bool {
	a, b := *s, *o
	a.Matches, b.Matches = nil, nil
	return reflect.DeepEqual(a, b) && slices.Equal(s.Matches, o.Matches)
}

// A ServiceKey identifies a service: by its mark; by protocol, address and port; or by its name.
type ServiceKey struct {
	Mark  uint32
	V6    bool
	Addr  netip.Addr
	Proto frame.Proto
	Port  uint16
	Name  string
}

// Key returns what identifies the service.
func (s *Service) Key() ServiceKey {
	if s.Mark != 0 {
		return ServiceKey{Mark: s.Mark, V6: s.V6}
	}
	if len(s.Matches) == 1 {
		if m := s.Matches[0]; m.First == m.Last || m.allPorts() {
			return ServiceKey{Addr: m.Addr, Proto: m.Proto, Port: m.First}
		}
	}
	return ServiceKey{Name: s.Name}
}

// String writes the key as ipvsadm does: "TCP 192.0.2.1:80", "FWM 7".
func (k ServiceKey) String() string {
	switch {
	case k.Mark != 0 && k.V6:
		return fmt.Sprintf("FWM %d IPv6", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("FWM %d", k.Mark)
	case k.Name != "":
		return k.Name
	}
	return k.Proto.String() + " " + netip.AddrPortFrom(k.Addr, k.Port).String()
}

// A Destination is a realserver of a service.
type Destination struct {
	Addr   netip.Addr
	Port   uint16 // the service's; direct routing cannot change it
	Weight int32
	Upper  int32 // thresholds, 0 for none
	Lower  int32
	Leg    frame.Leg // where it lives
	// Drain is how long flows may go on after Weight became 0; from then on they are treated as
	// those of a realserver that was removed (GonePolicy). 0 is for as long as they like.
	Drain time.Duration
	// Restore is the weight that it had before Weight became 0, for who gives it back; nothing here
	// looks at it.
	Restore int32 `json:",omitempty"`
}

// SourcePolicy decides the source MAC of forwarded frames.
type SourcePolicy uint8

// The policies. Auto preserves the client's (or its gateway's) MAC if the frame leaves by another
// leg than it came in by, and uses the leg's own if by the same, where a learning switch would be
// misled.
const (
	SourceAuto SourcePolicy = iota
	SourcePreserve
	SourceOwn
)

// GonePolicy decides what happens to packets of flows whose realserver was removed.
type GonePolicy uint8

// The policies.
const (
	GoneDrop       GonePolicy = iota // dropped until the flow ends or the realserver is added again, as in the kernel
	GoneReschedule                   // the flow gets another realserver at once
	GoneReset                        // a TCP client gets a RST and the flow ends; other flows get another realserver
)

// Settings are what holds for all services. The names of most are the kernel's under net.ipv4.vs.
type Settings struct {
	SloppyTCP               bool
	SloppySCTP              bool
	ConnReuseMode           int // bits: 1 reuse from TIME_WAIT and CLOSE, 2 from FIN_WAIT too
	ExpireNodestConn        bool
	ExpireQuiescentTemplate bool
	DropEntry               int // 0 never, 1 and 2 when the table is nearly full, 3 always
	DropPacket              int
	AmDroprate              int
	SecureTCP               int
	ScheduleICMP            bool
	TCPTimeout              time.Duration // 0: the kernel's 900 s
	TCPFinTimeout           time.Duration // 0: 120 s
	UDPTimeout              time.Duration // 0: 300 s

	Source SourcePolicy
	Gone   GonePolicy
	// RefuseWhenFull drops new flows when the table is full, instead of ending the one that has
	// proved least.
	RefuseWhenFull bool
	// StrayICMP sends an ICMP error about a flow that is not known to the realserver that the
	// client's template or a scheduler by hash names for it, without making a flow; the kernel
	// drops it. ScheduleICMP comes before it.
	StrayICMP bool
	// StrictRST has a TCP segment end a connection only if its sequence number fits what the client
	// has sent before: one with RST or FIN, or without flags; and an SCTP packet only with the
	// client's verification tag. They go to the realserver in any case.
	StrictRST bool
	// Silent keeps the director from answering for the VIP: echo replies, unreachables and resets.
	Silent bool
}

// DefaultSettings are the kernel's, which has nothing like StrayICMP and StrictRST.
func DefaultSettings() Settings {
	return Settings{ConnReuseMode: 1, AmDroprate: 10, StrayICMP: true, StrictRST: true}
}

// A ServicePlan is a service with its realservers, in the order in which they are added: first to
// last.
type ServicePlan struct {
	Service
	Destinations []Destination
}

// A Plan is all that an operator wants of a director; see Tx.Apply.
type Plan struct {
	Services []ServicePlan
	Settings Settings
}
