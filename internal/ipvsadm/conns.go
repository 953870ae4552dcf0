package ipvsadm

import (
	"fmt"
	"net/netip"

	"shunt/api"
)

// listConnections is -L -c, without sorting.
func (r *runner) listConnections(f format) error {
	fmt.Fprintf(r.out, "IPVS connection entries\n")
	fmt.Fprintf(r.out, "pro expire %-11s %-18s %-18s ", "state", "source", "virtual")
	if f.persistent {
		fmt.Fprintf(r.out, "%-18s %-16s %s\n", "destination", "pe name", "pe_data")
	} else {
		fmt.Fprintf(r.out, "destination\n")
	}
	err := r.director.Connections(r.ctx, &r.selection, func(c api.Connection) bool {
		name := func(a netip.AddrPort) string { return r.addrPort(a.Addr(), a.Port(), c.Protocol, f) }
		seconds := expires(&c)
		fmt.Fprintf(r.out, "%-3s %-6s %-11s %-18s %-18s %s\n", c.Protocol, fmt.Sprintf("%02d:%02d", seconds/60, seconds%60),
			c.State, name(c.Client), name(c.Virtual), name(c.Realserver))
		return true
	})
	if err != nil {
		return listFailure(getConnections, err)
	}
	return nil
}

// expires are the whole seconds that an entry has left.
func expires(c *api.Connection) int64 { return int64(max(c.Expires, 0)) }

// listDaemons is -L --daemon, the master first. Nothing is listed of a director that has none.
func (r *runner) listDaemons() error {
	syncer, ok := r.director.(Syncer)
	if !ok {
		return nil
	}
	daemons, err := syncer.Daemons()
	if err != nil {
		return listFailure("", err)
	}
	for _, d := range daemons {
		state := "master"
		if d.Backup {
			state = "backup"
		}
		fmt.Fprintf(r.out, "%s sync daemon (mcast=%s, syncid=%d", state, d.Interface, d.SyncID)
		if d.MaxLen != 0 {
			fmt.Fprintf(r.out, ", maxlen=%d", d.MaxLen)
		}
		if d.Group.IsValid() {
			fmt.Fprintf(r.out, ", group=%s", inetNtop(d.Group))
		}
		if d.Port != 0 {
			fmt.Fprintf(r.out, ", port=%d", d.Port)
		}
		if d.TTL != 0 {
			fmt.Fprintf(r.out, ", ttl=%d", d.TTL)
		}
		fmt.Fprintln(r.out, ")")
	}
	return nil
}
