package api

import "net/netip"

// VirtualService is a service as ipvsadm speaks of it: what identifies it, and its settings.
type VirtualService struct {
	// Name stands for the running service of that name, as /v1/services has it, or else for the
	// configuration's; mark, family, protocol, address and port are not looked at then. Services
	// with several matches and no mark can be named in no other way.
	Name string `json:"name,omitempty"`

	Mark uint32 `json:"mark,omitempty"` // of a group, else 0; its matches are those of the configuration
	V6   bool   `json:"v6,omitempty"`   // family of a group

	Protocol string     `json:"protocol,omitempty"` // TCP, UDP, SCTP
	Address  netip.Addr `json:"address,omitzero"`
	Port     uint16     `json:"port,omitempty"` // 0 is all ports

	Scheduler   string  `json:"scheduler,omitempty"`
	Flags       uint8   `json:"flags,omitempty"`       // 1 fallback, 2 port, 4 flag-3
	Persistence float64 `json:"persistence,omitempty"` // seconds; 0 is none
	MaskBits    int     `json:"mask_bits,omitempty"`   // of persistence; 0 is a whole address
	OnePacket   bool    `json:"one_packet,omitempty"`

	// Netmask and Engine are what ipvsadm can ask for and the director does not have: it refuses a
	// change with one of them.
	Netmask netip.Addr `json:"netmask,omitzero"` // -M of IPv4 that is not the mask of a prefix
	Engine  string     `json:"engine,omitempty"` // --pe
}

// Is6 reports whether the service is of IPv6.
func (s *VirtualService) Is6() bool {
	if s.Mark != 0 {
		return s.V6
	}
	return s.Address.Is6()
}

// VirtualServer is a destination as ipvsadm speaks of it.
type VirtualServer struct {
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port"`
	Weight  int32      `json:"weight"`
	Upper   int32      `json:"upper,omitempty"`
	Lower   int32      `json:"lower,omitempty"`
}

// Timeouts are those of ipvsadm --set, in seconds. In a change, 0 leaves one as it is.
type Timeouts struct {
	TCP    float64 `json:"tcp"`
	TCPFin float64 `json:"tcpfin"`
	UDP    float64 `json:"udp"`
}

// An Op is what a Change does.
type Op string

// The operations of changes.
const (
	OpAddService    Op = "add-service"
	OpEditService   Op = "edit-service" // all settings replace those it had
	OpDeleteService Op = "delete-service"
	OpFlush         Op = "flush"
	OpAddServer     Op = "add-server" // at the head of the list
	OpEditServer    Op = "edit-server"
	OpDeleteServer  Op = "delete-server"
	OpSetTimeouts   Op = "set-timeouts"
	OpZero          Op = "zero" // counters of the service, or of all if there is none
)

// Ops lists the operations.
func Ops() []Op {
	return []Op{OpAddService, OpEditService, OpDeleteService, OpFlush, OpAddServer, OpEditServer, OpDeleteServer, OpSetTimeouts, OpZero}
}

// Change is one step of a transaction: POST /v1/changes takes a list of them and carries out all or
// none. What it changes lasts until the configuration is read again.
type Change struct {
	Op       Op              `json:"op"`
	Service  *VirtualService `json:"service,omitempty"`
	Server   *VirtualServer  `json:"server,omitempty"`
	Timeouts *Timeouts       `json:"timeouts,omitempty"`
	// Force has add-service take a VIP that is an address of the director's host.
	Force bool `json:"force,omitempty"`
}

// TableService is a service with what the director knows of it.
type TableService struct {
	VirtualService
	Counts  Counts        `json:"counts"`
	Rates   Rates         `json:"rates"`
	Servers []TableServer `json:"servers"` // last added first
}

// TableServer is a destination with what the director knows of it.
type TableServer struct {
	VirtualServer
	Active     int32  `json:"active"`
	Inactive   int32  `json:"inactive"`
	Persistent int32  `json:"persistent"` // templates
	Counts     Counts `json:"counts"`
	Rates      Rates  `json:"rates"`
}

// Table is all that ipvsadm lists: GET /v1/table.
type Table struct {
	Capacity int            `json:"capacity"` // of the connection table
	Timeouts Timeouts       `json:"timeouts"`
	Services []TableService `json:"services"`
}

// A Code says why the director refused a change.
type Code string

// The codes of errors.
const (
	CodeExists           Code = "exists"
	CodeNoService        Code = "no-service"
	CodeServerExists     Code = "server-exists"
	CodeNoServer         Code = "no-server"
	CodeUnknownScheduler Code = "unknown-scheduler"
	CodeUnknownEngine    Code = "unknown-engine" // of persistence: there are none
	CodeUnknownMark      Code = "unknown-mark"
	CodeRange            Code = "range"
	CodeInvalid          Code = "invalid"
	CodeOwnAddress       Code = "own-address" // of the director's host; Change.Force makes the change all the same
	CodeReload           Code = "reload"      // the file was refused
)

// Error is the answer to a change that cannot be made. The status is 409.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"error"`
	Change  int    `json:"change"` // which, counted from 0
}

func (e *Error) Error() string { return e.Message }
