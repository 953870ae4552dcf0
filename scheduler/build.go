package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnknown is wrapped by the error of Build for an unknown scheduler name.
var ErrUnknown = errors.New("unknown scheduler")

// build makes an instance for list; what it needs of opt it has checked.
type build func(opt Options, list []Destination) (Scheduler, error)

// builders has all schedulers, in the order of ipvsadm's help.
var builders = []struct {
	name  string
	about string
	make  build
}{
	{"rr", "round robin", newRR},
	{"wrr", "weighted round robin", newWRR},
	{"lc", "fewest connections", newLC},
	{"wlc", "fewest connections for its weight", newWLC},
	{"lblc", "one realserver for each VIP, another when it is overloaded", newLBLC},
	{"lblcr", "a set of realservers for each VIP", newLBLCR},
	{"dh", "by a hash of the VIP", newDH},
	{"sh", "by a hash of the client", newSH},
	{"sed", "shortest expected delay", newSED},
	{"nq", "an idle realserver, else as sed", newNQ},
	{"fo", "the usable one of highest weight", newFO},
	{"ovf", "the one of highest weight that has fewer active connections than that", newOVF},
	{"mh", "by a hash of the client, Maglev", newMH},
	{"twos", "the better of two at random", newTwos},
}

// Names lists the schedulers in the order of ipvsadm's help.
func Names() []string {
	names := make([]string, len(builders))
	for i, b := range builders {
		names[i] = b.name
	}
	return names
}

// Ramped lists the schedulers that use Destination.Ramp.
func Ramped() []string { return []string{"lc", "wlc", "lblc", "lblcr", "sed", "nq"} }

// Hashed reports whether a scheduler chooses by a hash of addresses and ports alone. Such a
// scheduler chooses the same realserver for a flow again, even if the flow is no longer in the
// connection table.
func Hashed(name string) bool { return name == "sh" || name == "mh" || name == "dh" }

// About describes in a few words how a scheduler chooses. It returns "" for an unknown name.
func About(name string) string {
	for _, b := range builders {
		if b.name == name {
			return b.about
		}
	}
	return ""
}

// Build creates the scheduler with the given name for list. The list is ordered newest first; Build
// does not keep it. changes are the steps from the previous list to this one, in order; Take
// applies them. The error wraps ErrUnknown for an unknown name; otherwise it names the option that
// the scheduler does not support.
func Build(name string, opt Options, list []Destination, changes []Change) (Scheduler, error) {
	for _, b := range builders {
		if b.name != name {
			continue
		}
		if opt.TableSize != 0 && name != "mh" {
			return nil, fmt.Errorf("a table size of %d: only mh has a table whose size can be chosen", opt.TableSize)
		}
		s, err := b.make(opt, list)
		if err != nil {
			return nil, err
		}
		if f, ok := s.(interface{ follow([]Change) }); ok {
			f.follow(slices.Clone(changes))
		}
		return s, nil
	}
	return nil, fmt.Errorf("%w %q: there are %s", ErrUnknown, name, strings.Join(Names(), ", "))
}

// cell is what a walk needs of a destination, close together.
type cell struct {
	load   *Load
	weight int32
	ramp   int32 // thousandths of the weight that count
	id     uint32
}

// full is the Ramp of a destination that is not slowly starting.
const full = 1000

// A pool is the list of destinations as the schedulers walk it. It is immutable, so that all
// workers share it.
type pool []cell

func newPool(list []Destination) pool {
	p := make(pool, len(list))
	for i := range list {
		p[i] = cell{load: list[i].Load, weight: list[i].Weight, ramp: full, id: list[i].ID}
		if r := list[i].Ramp; r > 0 && r < full {
			p[i].ramp = r
		}
	}
	return p
}

// usable reports whether destination i may have new flows.
func (p pool) usable(i int) bool { return p[i].weight > 0 && p[i].load.Available() }

// index returns the place of a destination, or None.
func (p pool) index(id uint32) int {
	for i := range p {
		if p[i].id == id {
			return i
		}
	}
	return None
}

// overhead weighs active connections 256 times as heavy as inactive ones (ip_vs_dest_conn_overhead,
// include/net/ip_vs.h).
func overhead(l *Load) int64 {
	active, inactive := l.Conns()
	return int64(active)<<8 + int64(inactive)
}

// stateless is the Fork and Take of schedulers that remember nothing.
type stateless struct{}

func (stateless) Take(Scheduler) {}
