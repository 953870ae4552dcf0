// Package api asks and changes a running director over its control socket, which speaks HTTP and
// JSON on a unix socket.
//
// A Client has one method for each endpoint:
//
//	Status, Overview, Services, Neighbours   what the director does and has counted
//	Connections, Kill, Move                  the connection table
//	Explain                                  where a packet would go, and why
//	Table, Apply                             what ipvsadm lists, and transactions of changes
//	Drain, Enable                            weights of a realserver
//	Config, Reload                           the running configuration, and the file
//	OpenAPI                                  a description of all endpoints, for code generators
//
// The director refuses a request with a *FieldError if a field is wrong, and with an *Error if the
// request cannot be carried out. A refused request changes nothing. Any other error says why there
// is no answer: no director on the socket, no permission, a context that ended.
//
// MACs are text, as in 02:00:00:00:00:01. Names may contain any characters: use Printable before
// you write them to a terminal. docs/control.md describes each field.
//
// The package imports the standard library only.
package api

import (
	"net/netip"
	"time"
)

// Status is the state of the director and its own counters: GET /v1/status. The counters of
// services are in Service.
type Status struct {
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Config   string    `json:"config"`  // path of the configuration file
	Reloads  uint64    `json:"reloads"` // successful ones
	Changes  uint64    `json:"changes"` // by the control socket, since the configuration was read
	Flows    int       `json:"flows"`   // entries in use of the connection tables
	Capacity int       `json:"capacity"`
	// Verdicts are the frames by verdict. docs/control.md lists the names. All names are present: a
	// verdict that no frame had is 0.
	Verdicts map[string]uint64 `json:"verdicts"`
	Answers  AnswerCounters    `json:"answers"`
	Table    TableCounters     `json:"table"`
	Rings    []RingCounters    `json:"rings"` // one for each worker
	Legs     []Leg             `json:"legs"`
	Unkept   Unkept            `json:"unkept"`
	// Confinement is nil with confine: off.
	Confinement *Confinement `json:"confinement,omitzero"`
}

// Unkept says what a restart will lose in spite of a state_dir, each with the reason. An empty text
// means that nothing is lost, which is usual.
type Unkept struct {
	Connections string `json:"connections,omitzero"`
	Changes     string `json:"changes,omitzero"` // by the control socket
}

// Service is one virtual service with its counters since it was added.
type Service struct {
	Name        string         `json:"name"`
	Protocol    string         `json:"protocol"`       // TCP, UDP, SCTP
	Address     netip.AddrPort `json:"address"`        // VIP and port
	Mark        uint32         `json:"mark,omitempty"` // identifies the service in changes; 0: none
	Scheduler   string         `json:"scheduler"`
	Counts      Counts         `json:"counts"`
	Rates       Rates          `json:"rates"`
	Realservers []Realserver   `json:"realservers"` // in the scheduler's order: last added first
}

// Counts are the totals of a service or a realserver.
type Counts struct {
	Flows   uint64 `json:"flows"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"` // of IP packets, without the Ethernet header, as in IPVS
}

// Realserver is one destination of a service.
type Realserver struct {
	Address   netip.AddrPort `json:"address"` // RIP and port
	MAC       string         `json:"mac,omitempty"`
	Leg       string         `json:"leg,omitempty"`
	Weight    int32          `json:"weight"`
	Upper     int32          `json:"upper,omitempty"` // threshold; 0 is none
	Lower     int32          `json:"lower,omitempty"`
	Active    int32          `json:"active"`
	Inactive  int32          `json:"inactive"`
	Available bool           `json:"available"`         // below its upper threshold, and its MAC is known
	Drained   bool           `json:"drained,omitempty"` // its drain time is over
	Counts    Counts         `json:"counts"`
	Rates     Rates          `json:"rates"`
}

// Connection is one entry of the connection table.
type Connection struct {
	Protocol   string         `json:"protocol"`
	State      string         `json:"state"` // as ipvsadm -Lnc prints it
	Client     netip.AddrPort `json:"client"`
	Virtual    netip.AddrPort `json:"virtual"`
	Realserver netip.AddrPort `json:"realserver"`
	Expires    float64        `json:"expires"` // seconds from now
	Packets    uint32         `json:"packets"`
	Template   bool           `json:"template,omitempty"`
}

// A NeighbourState says what is known of a realserver's MAC.
type NeighbourState string

// The states of neighbours.
const (
	Incomplete NeighbourState = "incomplete" // asked for, never answered
	Resolved   NeighbourState = "resolved"
	Stale      NeighbourState = "stale"  // known and used, but being asked for again
	Failed     NeighbourState = "failed" // does not answer, and gets no new connections
	Static     NeighbourState = "static" // given by the configuration
)

// NeighbourStates lists the states.
func NeighbourStates() []NeighbourState {
	return []NeighbourState{Incomplete, Resolved, Stale, Failed, Static}
}

// Neighbour is the address of a realserver on its leg, with what is known of its MAC.
type Neighbour struct {
	Address netip.Addr     `json:"address"`
	Leg     string         `json:"leg"`
	MAC     string         `json:"mac,omitempty"`
	State   NeighbourState `json:"state"`

	Since    time.Time `json:"since,omitzero"`    // of the state
	Disputes uint64    `json:"disputes,omitzero"` // answers of another host for the address
	Disputed time.Time `json:"disputed,omitzero"` // the last time
	Rival    string    `json:"rival,omitempty"`   // the MAC of that host
}

// A Decider says what determines where a packet goes.
type Decider string

// The deciders.
const (
	ByFlow      Decider = "flow"      // its connection, which is known
	ByTemplate  Decider = "template"  // the client's persistence
	ByScheduler Decider = "scheduler" // it would begin a connection
)

// Explanation says where a packet would go, and why: GET /v1/explain.
type Explanation struct {
	Tuple      string         `json:"packet"`
	Verdict    string         `json:"verdict"`
	Meaning    string         `json:"meaning"`
	Decider    Decider        `json:"decider"` // empty if nothing decides
	Service    string         `json:"service,omitempty"`
	Key        string         `json:"key,omitempty"` // of the service, as ipvsadm prints it
	Scheduler  string         `json:"scheduler,omitempty"`
	Realserver netip.AddrPort `json:"realserver,omitzero"`
	MAC        string         `json:"mac,omitempty"`
	State      string         `json:"state,omitempty"`   // of the connection or the template that decides
	Expires    float64        `json:"expires,omitempty"` // remaining seconds
	Candidates []Candidate    `json:"candidates"`        // in the order of the scheduler: last added first
}

// Candidate is a realserver of the service, with the reason why it is chosen or not.
type Candidate struct {
	Realserver netip.AddrPort `json:"realserver"`
	Weight     int32          `json:"weight"`
	Active     int32          `json:"active"`
	Inactive   int32          `json:"inactive"`
	Reason     string         `json:"reason"`
	Chosen     bool           `json:"chosen"`
}

// Rates are averages of the last seconds, computed as by the estimator of IPVS.
type Rates struct {
	Flows   uint64 `json:"flows"`   // a second
	Packets uint64 `json:"packets"` // a second
	Bytes   uint64 `json:"bytes"`   // a second
}
