// Package ipvsadm is the command line of ipvsadm 1.31: the same options, messages, exit codes and
// listings, to the byte, for a director that is not the kernel. Scripts, ldirectord and people's
// fingers need not know the difference.
//
// A command line is parsed into an api.Change, and listings are made of an api.Table. Comments that
// cite ipvsadm.c, libipvs.c, config_stream.c or popt.c say where a behaviour comes from, as some of
// it is surprising.
package ipvsadm

import (
	"context"
	"net/netip"

	"shunt/api"
)

// A Director is what the kernel's IPVS is to ipvsadm: a client of a running director. Run uses it
// from one goroutine. An *api.Error or *api.FieldError is told in the words that ipvsadm has for
// the kernel's error number; the text of any other error is printed as it is.
type Director interface {
	// Status tells that the director is there. Run asks for it first, as ipvsadm opens its netlink
	// socket first; the table may be a hundred thousand lines.
	Status(context.Context) (api.Status, error)
	Table(context.Context) (api.Table, error)
	// Connections calls fn for each selected connection until fn returns false.
	Connections(ctx context.Context, s *api.Selection, fn func(api.Connection) bool) error
	// Apply makes the changes in their order, all or, if it returns an error, none of them.
	Apply(ctx context.Context, changes []api.Change) error
}

var _ Director = (*api.Client)(nil)

// A Syncer is a Director that also synchronizes connections with other directors (--start-daemon).
type Syncer interface {
	Daemons() ([]Daemon, error)
	StartDaemon(Daemon) error
	StopDaemon(Daemon) error
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

// The protocols of services.
const (
	TCP  = "TCP"
	UDP  = "UDP"
	SCTP = "SCTP"
)

// protocolNumbers are IP's, by which services are sorted.
var protocolNumbers = map[string]int32{TCP: 6, UDP: 17, SCTP: 132}

// same reports whether both are the same service, whatever its settings are.
func same(a, b *api.VirtualService) bool {
	if a.Mark != 0 || b.Mark != 0 {
		return a.Mark == b.Mark && a.V6 == b.V6
	}
	return a.Protocol == b.Protocol && a.Address == b.Address && a.Port == b.Port
}
