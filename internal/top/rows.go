package top

import (
	"slices"
	"strings"

	"shunt/api"
	"shunt/internal/figures"
)

// rates are what was counted a second between the last two answers.
type rates struct{ flows, packets, bytes float64 }

// row is a realserver, or with rs nil a service.
type row struct {
	rates
	service *api.Service
	rs      *api.Realserver
	share   float64 // of the service's connections
	up, of  int     // realservers of a service
}

func (r *row) key() string { return r.service.Name + "\x00" + r.rs.Address.String() }

// since is how fast counts grew; zero without the answer before.
func (m *Model) since(was, is api.Counts) rates {
	if m.before == nil {
		return rates{}
	}
	seconds := m.now.Now.Sub(m.before.Now).Seconds()
	if seconds <= 0 || is.Packets < was.Packets || is.Flows < was.Flows || is.Bytes < was.Bytes {
		return rates{}
	}
	return rates{float64(is.Flows-was.Flows) / seconds, float64(is.Packets-was.Packets) / seconds, float64(is.Bytes-was.Bytes) / seconds}
}

// past are the counts of the answer before, by service and realserver.
func (m *Model) past() map[string]api.Counts {
	out := map[string]api.Counts{}
	if m.before == nil {
		return out
	}
	for i := range m.before.Services {
		s := &m.before.Services[i]
		out[s.Name] = s.Counts
		for j := range s.Realservers {
			out[s.Name+"\x00"+s.Realservers[j].Address.String()] = s.Realservers[j].Counts
		}
	}
	return out
}

// totals are the rates of all services.
func (m *Model) totals() (sum rates) {
	past := m.past()
	for i := range m.now.Services {
		s := &m.now.Services[i]
		if was, ok := past[s.Name]; ok {
			r := m.since(was, s.Counts)
			sum.flows += r.flows
			sum.packets += r.packets
			sum.bytes += r.bytes
		}
	}
	return sum
}

// rows lists services and, below each, its realservers that pass the filter. A service of which
// nothing passes is left out.
func (m *Model) rows() []*row {
	past := m.past()
	var out []*row
	for i := range m.now.Services {
		s := &m.now.Services[i]
		head := &row{service: s, of: len(s.Realservers)}
		if was, ok := past[s.Name]; ok {
			head.rates = m.since(was, s.Counts)
		}
		all := 0
		for j := range s.Realservers {
			all += int(s.Realservers[j].Active + s.Realservers[j].Inactive)
		}
		var servers []*row
		for j := range s.Realservers {
			r := &row{service: s, rs: &s.Realservers[j]}
			if was, ok := past[r.key()]; ok {
				r.rates = m.since(was, r.rs.Counts)
			}
			if all > 0 {
				r.share = float64(r.rs.Active+r.rs.Inactive) / float64(all)
			}
			if figures.StateOf(r.rs).Class == "good" {
				head.up++
			}
			if m.passes(s.Name, s.Address.String(), r.rs.Address.String(), figures.StateOf(r.rs).Word) {
				servers = append(servers, r)
			}
		}
		if len(servers) == 0 && !m.passes(s.Name, s.Address.String()) {
			continue
		}
		slices.SortStableFunc(servers, sorts[0].by)
		slices.SortStableFunc(servers, sorts[m.sort].by)
		out = append(append(out, head), servers...)
	}
	return out
}

// passes reports whether any of the texts has what is filtered for.
func (m *Model) passes(texts ...string) bool {
	return slices.ContainsFunc(texts, func(t string) bool {
		return strings.Contains(strings.ToLower(t), strings.ToLower(m.filter))
	})
}

// servers are the rows that can be selected.
func (m *Model) servers() []*row {
	return slices.DeleteFunc(m.rows(), func(r *row) bool { return r.rs == nil })
}
