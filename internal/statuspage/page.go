package statuspage

import (
	"bytes"
	"cmp"
	"html/template"
	"net/netip"
	"os"
	"slices"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/figures"
)

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"count": count, "short": figures.Short, "bits": figures.Bits, "size": figures.Size, "seconds": figures.Seconds, "ago": figures.Ago,
	"spark": spark, "bar": bar, "drift": figures.DriftTitle,
}).ParseFS(assets, "assets/page.html"))

// view is what page.html shows.
type view struct {
	*api.Overview
	Host     string
	Uptime   string
	Warnings []figures.Warning
	All      tile
	Load     float64 // of the table, 0 to 1
	P50, P99 float64 // seconds in the director
	Groups   []service
	Losses   []verdict
	Others   []verdict
}

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
	State figures.State
	Share float64 // of the service's connections, 0 to 1
}

type verdict struct {
	Name, Meaning string
	Frames        uint64
	Rate          float64
}

var host = func() string { h, _ := os.Hostname(); return h }()

// render makes the page. The history's mutex is held.
func render(h *history) ([]byte, error) {
	o := &h.last
	v := view{
		Overview: o, Host: host, Uptime: figures.Ago(o.Now.Sub(o.Started)), All: h.tile("", none),
		Warnings: figures.Warnings(o),
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

func (h *history) tile(service string, realserver netip.AddrPort) tile {
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
	out := service{Service: s, tile: h.tile(s.Name, none), Of: len(s.Realservers)}
	for i := range s.Realservers {
		r := &s.Realservers[i]
		row := realserver{Realserver: r, tile: h.tile(s.Name, r.Address), State: figures.StateOf(r)}
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
	slices.SortStableFunc(out.Rows, func(a, b realserver) int { return a.Address.Compare(b.Address) })
	return out
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
