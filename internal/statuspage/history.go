package statuspage

import (
	"context"
	"encoding/json"
	"net/netip"
	"sync"
	"time"

	"shunt/api"
)

const (
	// every is how often the director is asked. All browsers are answered from that, so however
	// many look, and however often, costs it nothing.
	every  = 2 * time.Second
	points = 90 // that a chart has: three minutes

	latencies = 31 // that are remembered, to tell of the last minute
)

// history is the last answer of the director, and the rates of the last minutes, so that charts are
// there when a page is opened.
type history struct {
	d Director

	mu       sync.Mutex
	last     api.Overview
	series   map[string]*series
	verdicts map[string]float64 // frames a second
	latency  []api.Latency      // of the last minute, the oldest first
	page     []byte             // made of these when first asked for
	figures  []byte
}

// series are the rates a second of a service, a realserver or all, the oldest first.
type series struct {
	flows, packets, bytes []float64
}

func newHistory(d Director) *history {
	h := &history{d: d, series: map[string]*series{}}
	h.note()
	return h
}

// run notes rates until ctx is done.
func (h *history) run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.note()
		}
	}
}

// none is no realserver.
var none netip.AddrPort

// key names the series of a service or, if there is one, of a realserver; both empty is all.
func key(service string, realserver netip.AddrPort) string {
	return service + "\x00" + realserver.String()
}

// totals are the counts of o by key.
func totals(o *api.Overview) map[string]api.Counts {
	out := map[string]api.Counts{}
	var all api.Counts
	for i := range o.Services {
		s := &o.Services[i]
		all.Flows += s.Counts.Flows
		all.Packets += s.Counts.Packets
		all.Bytes += s.Counts.Bytes
		out[key(s.Name, none)] = s.Counts
		for j := range s.Realservers {
			out[key(s.Name, s.Realservers[j].Address)] = s.Realservers[j].Counts
		}
	}
	out[key("", none)] = all
	return out
}

// note asks the director and adds a point to each series.
func (h *history) note() {
	o := h.d.Overview()
	h.mu.Lock()
	defer h.mu.Unlock()
	seconds := o.Now.Sub(h.last.Now).Seconds()
	first := h.last.Now.IsZero()
	old, now := totals(&h.last), totals(&o)
	for k, c := range now {
		s := h.series[k]
		if s == nil {
			s = &series{}
			h.series[k] = s
		}
		if was, ok := old[k]; ok && !first && seconds > 0 {
			s.flows = push(s.flows, rate(was.Flows, c.Flows, seconds))
			s.packets = push(s.packets, rate(was.Packets, c.Packets, seconds))
			s.bytes = push(s.bytes, rate(was.Bytes, c.Bytes, seconds))
		}
	}
	for k := range h.series {
		if _, ok := now[k]; !ok {
			delete(h.series, k)
		}
	}
	h.verdicts = map[string]float64{}
	if !first && seconds > 0 {
		for v, n := range o.Verdicts {
			h.verdicts[v] = rate(h.last.Verdicts[v], n, seconds)
		}
	}
	if len(h.latency) == latencies {
		h.latency = h.latency[:copy(h.latency, h.latency[1:])]
	}
	h.latency = append(h.latency, o.Latency)
	h.last, h.page, h.figures = o, nil, nil
}

// rate is what was counted a second; 0 if the counter was set back.
func rate(was, is uint64, seconds float64) float64 {
	if is < was {
		return 0
	}
	return float64(is-was) / seconds
}

func push(s []float64, v float64) []float64 {
	if len(s) == points {
		s = s[:copy(s, s[1:])]
	}
	return append(s, v)
}

// html returns the page. It must not be changed.
func (h *history) html() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	if h.page == nil {
		h.page, err = render(h)
	}
	return h.page, err
}

// json returns the figures. They must not be changed.
func (h *history) json() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	if h.figures == nil {
		h.figures, err = json.MarshalIndent(&h.last, "", "  ")
	}
	return h.figures, err
}
