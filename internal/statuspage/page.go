package statuspage

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"shunt/forwarder"
	"shunt/internal/api"
)

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"count": count, "short": short, "bits": bits, "size": size, "seconds": seconds, "spark": spark, "bar": bar, "ago": ago,
}).ParseFS(assets, "assets/page.html"))

// view is what page.html shows.
type view struct {
	*api.Overview
	Host     string
	Uptime   string
	Warnings []warning
	All      tile
	Load     float64 // of the table, 0 to 1
	P50, P99 float64 // seconds in the director
	Groups   []service
	Losses   []verdict
	Others   []verdict
}

// warning is something that an operator should do something about.
type warning struct{ Title, Text string }

// tile is the last rates, and their charts.
type tile struct {
	Flows, Packets, Bytes    float64
	FlowsS, PacketsS, BytesS []float64
}

type service struct {
	*api.Service
	tile
	Up, Of   int
	Active   int
	Inactive int
	Rows     []realserver
}

type realserver struct {
	*api.Realserver
	tile
	State State
	Share float64 // of the service's connections, 0 to 1
}

type verdict struct {
	Name, Meaning string
	Frames        uint64
	Rate          float64
}

// State is a realserver's in a word, with what it means and a class of colours.
type State struct{ Word, Class, Meaning string }

// StateOf tells how a realserver fares.
func StateOf(r *api.Realserver) State {
	switch {
	case r.MAC == "":
		return State{"no answer", "bad", "its MAC is not known: it does not answer ARP or neighbour discovery"}
	case r.Drained:
		return State{"drained", "off", "of weight 0, and its time to drain is over"}
	case !r.Available:
		return State{"full", "warn", "at its upper threshold: it gets no new connections for now"}
	case r.Weight == 0:
		return State{"draining", "off", "of weight 0: it gets no new connections"}
	}
	return State{"up", "good", "takes connections"}
}

var host = func() string { h, _ := os.Hostname(); return h }()

// render makes the page. The history's mutex is held.
func render(h *history) ([]byte, error) {
	o := &h.last
	v := view{
		Overview: o, Host: host, Uptime: ago(o.Now.Sub(o.Started)), All: h.tile("", ""),
		Warnings: warnings(o),
	}
	minute := o.Latency.Since(&h.latency[0])
	v.P50, v.P99 = minute.Quantile(0.5), minute.Quantile(0.99)
	if o.Capacity > 0 {
		v.Load = float64(o.Flows) / float64(o.Capacity)
	}
	for i := range o.Services {
		v.Groups = append(v.Groups, h.service(&o.Services[i]))
	}
	v.Losses, v.Others = h.frames()
	var b bytes.Buffer
	err := page.Execute(&b, &v)
	return b.Bytes(), err
}

func (h *history) tile(service, realserver string) tile {
	s := h.series[key(service, realserver)]
	if s == nil {
		return tile{}
	}
	last := func(x []float64) float64 {
		if len(x) == 0 {
			return 0
		}
		return x[len(x)-1]
	}
	return tile{last(s.flows), last(s.packets), last(s.bytes), s.flows, s.packets, s.bytes}
}

func (h *history) service(s *api.Service) service {
	out := service{Service: s, tile: h.tile(s.Name, ""), Of: len(s.Realservers)}
	for i := range s.Realservers {
		r := &s.Realservers[i]
		row := realserver{Realserver: r, tile: h.tile(s.Name, r.Address), State: StateOf(r)}
		if row.State.Class == "good" {
			out.Up++
		}
		out.Active += int(r.Active)
		out.Inactive += int(r.Inactive)
		out.Rows = append(out.Rows, row)
	}
	for i := range out.Rows {
		r := &out.Rows[i]
		if all := out.Active + out.Inactive; all > 0 {
			r.Share = float64(r.Active+r.Inactive) / float64(all)
		}
	}
	// The order of the schedulers is the newest first; people look for an address.
	slices.SortStableFunc(out.Rows, func(a, b realserver) int { return byAddress(a.Address, b.Address) })
	return out
}

// byAddress compares addresses with ports by their numbers.
func byAddress(a, b string) int {
	x, errX := netip.ParseAddrPort(a)
	y, errY := netip.ParseAddrPort(b)
	if errX != nil || errY != nil {
		return cmp.Compare(a, b)
	}
	return x.Compare(y)
}

// frames lists the verdicts that there were: those that are losses, and the others.
func (h *history) frames() (losses, others []verdict) {
	for v := range forwarder.NumVerdicts {
		n := h.last.Verdicts[v.String()]
		if n == 0 && v != forwarder.Forwarded {
			continue
		}
		row := verdict{v.String(), v.Meaning(), n, h.verdicts[v.String()]}
		if v < forwarder.NoService {
			others = append(others, row)
		} else {
			losses = append(losses, row)
		}
	}
	slices.SortStableFunc(losses, func(a, b verdict) int { return cmp.Compare(b.Frames, a.Frames) })
	return losses, others
}

// recent is how long a conflict is warned of after its last message.
const recent = 10 * time.Minute

// warnings lists what an operator should look at, the worst first.
func warnings(o *api.Overview) []warning {
	var out []warning
	say := func(title, format string, args ...any) {
		out = append(out, warning{title, fmt.Sprintf(format, args...)})
	}
	for _, c := range o.Conflicts {
		switch {
		case o.Now.Sub(c.Last) > recent:
		case c.Realserver != "":
			say("Conflict over "+c.VIP, "Realserver %s (%s) answers ARP for the VIP on %s: clients go past the director. There, set arp_ignore=1 and arp_announce=2.",
				c.Realserver, c.MAC, c.Leg)
		default:
			say("Conflict over "+c.VIP, "%s on %s claims the VIP: clients go there or here by chance. Find that host by its MAC.", c.MAC, c.Leg)
		}
	}
	for i := range o.Legs {
		if l := &o.Legs[i]; !l.Up {
			say("Leg "+l.Name+" is down", "Nothing is forwarded by interface %s until it is up.", l.Interface)
		}
	}
	for i := range o.Services {
		s := &o.Services[i]
		if !slices.ContainsFunc(s.Realservers, func(r api.Realserver) bool { return StateOf(&r).Class == "good" }) {
			say("Service "+s.Name+" has no realserver", "None takes new connections: see their states below.")
		}
	}
	if o.Capacity > 0 && o.Flows > o.Capacity/10*9 {
		say("The connection table is nearly full", "%s of %s entries. Raise flows in the configuration.", count(o.Flows), count(o.Capacity))
	}
	for i := range o.Legs {
		if l := &o.Legs[i]; l.RingFull > 0 {
			say("Frames were dropped at the ring of "+l.Name, "%s since the start. Raise ring.slots for bursts, workers for a steady load.", count(l.RingFull))
		}
	}
	if o.Reload.Error != "" {
		say("The last reload was refused", "The old configuration stays in force. %s", firstLine(o.Reload.Error))
	}
	return out
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
