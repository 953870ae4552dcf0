package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"shunt/api"
	"shunt/internal/figures"
)

// What the connection table tells of the way back. A director sees only the client's half of a
// connection, but a client whose SYN was answered sends an ACK; one that hears nothing sends its
// SYN again. So a connection in SYN_RECV with more than one packet is of a client that hears
// nothing. A flood does not look like this: its SYNs come once.

const (
	// halfOpenFew is how many are no sign yet: clients go away at any time.
	halfOpenFew = 3
	// halfOpenMany bounds how many are read.
	halfOpenMany = 100000
	// halfOpenTime bounds how long the table is read.
	halfOpenTime = 3 * time.Second
)

// halfOpen is what is known of the TCP connections of a realserver.
type halfOpen struct {
	waiting int // in SYN_RECV
	again   int // of these, with a SYN that was repeated
	active  int // as the director counts them, with those in SYN_RECV
}

// established tells whether there are connections whose client was answered.
func (h halfOpen) established() bool { return h.active > h.waiting }

// stuck tells whether most clients of the realserver hear nothing.
func (h halfOpen) stuck() bool { return h.again >= halfOpenFew && 2*h.again >= h.active }

// readTable counts half-open connections by realserver; nil if no director was asked.
func (f *facts) readTable(ctx context.Context, socket string) (map[netip.Addr]halfOpen, error) {
	if f.status == nil {
		return nil, nil
	}
	out := map[netip.Addr]halfOpen{}
	for i := range f.status.Services {
		for _, x := range f.status.Services[i].Realservers {
			if at := x.Address.Addr(); f.status.Services[i].Protocol == "TCP" {
				h := out[at]
				h.active += int(x.Active)
				out[at] = h
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, halfOpenTime)
	defer cancel()
	read := 0
	err := api.NewClient(socket).Connections(ctx, &api.Selection{Protocol: "TCP", State: "SYN_RECV"}, func(c api.Connection) bool {
		h := out[c.Realserver.Addr()]
		h.waiting++
		if c.Packets > 1 {
			h.again++
		}
		out[c.Realserver.Addr()] = h
		read++
		return read < halfOpenMany
	})
	if ctx.Err() != nil {
		err = nil // what was read is enough
	}
	return out, err
}

// checkTable finds realservers whose clients hear nothing.
func (f *facts) checkTable(r *Report) {
	var stuck, others []netip.Addr
	for a, h := range f.table {
		if h.stuck() {
			stuck = append(stuck, a)
		} else if h.established() {
			others = append(others, a)
		}
	}
	slices.SortFunc(stuck, netip.Addr.Compare)
	for _, a := range stuck {
		h := f.table[a]
		evidence := fmt.Sprintf("%s of %d in the director's table are in SYN_RECV with a repeated SYN", figures.Plural(h.again, "connection"), max(h.active, h.waiting))
		if len(others) > 0 {
			evidence += fmt.Sprintf("; those of %s are established", figures.Plural(len(others), "other realserver"))
		}
		severity := Error
		if f.drained(a) {
			severity = Warning
		}
		r.find(severity, "half-open", fmt.Sprintf("clients of realserver %s do not receive its replies", a), evidence,
			"on the realserver: shunt realserver check; its default route must be the gateway, its server must answer on the VIP, and no filter may block the return path")
	}
}
