package forwarder_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"shunt/forwarder"
)

// moment is what was known when a packet was sent.
type moment struct {
	t             float64
	tx            packet
	to            string
	before, conns []conn // the connection table before and after it
	rows          string // of the destinations after it
}

// destRows lists weight and connections of all destinations as counter_table does.
func (d *director) destRows() string {
	var out []string
	for _, s := range d.engine.Services() {
		for _, dst := range slices.Backward(s.Destinations) {
			out = append(out, fmt.Sprintf("%s:%d Route %d %d %d", dst.Addr, dst.Port, dst.Weight, dst.Active, dst.Inactive))
		}
	}
	return strings.Join(out, "; ")
}

func joinRows(rows [][]string) string {
	var out []string
	for _, r := range rows {
		out = append(out, strings.Join(r, " "))
	}
	return strings.Join(out, "; ")
}

// segment makes a TCP segment to the VIP on port 80, with a header of n bytes and data bytes of
// data.
func segment(src, dst string, sport uint16, flags string, n, data int) *packet {
	dport, ttl := uint16(80), 64
	p := &packet{Src: src, Dst: dst, TTL: &ttl, Proto: "tcp", Sport: &sport, Dport: &dport, Flags: &flags, DF: true, DataLen: data}
	if addr(src).Is6() {
		p.PLen = n + data
	} else {
		p.TotLen = 20 + n + data
	}
	return p
}

// tcp sends a segment and returns who received something.
func (d *director) tcp(src, dst string, sport uint16, flags string) string {
	return d.sendPacket(segment(src, dst, sport, flags, 20, 0))
}

// sendPacket sends a packet and returns who received something.
func (d *director) sendPacket(p *packet) string {
	out, err := d.send(ethernet(p, false))
	d.must(err)
	return receivers(out)
}

// sweep sends the flows of a hash_sweep: each a SYN and then a RST.
func (d *director) sweep(e *event) error {
	var rows [][4]any
	d.must(json.Unmarshal(e.Rows, &rows))
	var errs []error
	for _, r := range rows {
		src, sport, dst, want := r[0].(string), uint16(r[1].(float64)), r[2].(string), r[3].(string)
		if got := d.tcp(src, dst, sport, "S"); got != want {
			errs = append(errs, fmt.Errorf("%s:%d to %s went to %s, the kernel's to %s", src, sport, dst, got, want))
		}
		d.tcp(src, dst, sport, "R")
	}
	return errors.Join(errs...)
}

// http sends the client's half of each request: "GET / HTTP/1.0", with timestamps in all segments
// as Linux has them.
func (d *director) http(e *event) error {
	src, dst := "10.77.0.10", "192.0.2.100"
	if d.engine.Services()[0].Matches[0].Addr.Is6() {
		src, dst = "fd00:77::10", "2001:db8::100"
	}
	var errs []error
	for _, r := range e.Requests {
		sport, want := uint16(r[0].(float64)), r[1].(string)
		for _, p := range []*packet{
			segment(src, dst, sport, "S", 40, 0), segment(src, dst, sport, "A", 32, 0), segment(src, dst, sport, "PA", 32, 18),
			segment(src, dst, sport, "A", 32, 0), segment(src, dst, sport, "FA", 32, 0),
		} {
			if got := d.sendPacket(p); got != want {
				errs = append(errs, fmt.Errorf("%s of port %d went to %s, the kernel's to %s", *p.Flags, sport, got, want))
			}
		}
	}
	return errors.Join(errs...)
}

// curl is one request, of a port that the trace does not write; it printed the realserver's name.
func (d *director) curl(e *event) error {
	d.ports++
	return d.http(&event{Requests: [][2]any{{float64(d.ports), strings.TrimSpace(e.Out)}}})
}

// paths are how the traces lead a flow to a state.
var paths = map[string][]string{
	"SYN_RECV": {"S"}, "ESTABLISHED": {"S", "A"}, "FIN_WAIT": {"S", "A", "FA"}, "TIME_WAIT": {"S", "FA"}, "CLOSE": {"S", "A", "R"},
}

// transitions leads a flow to each state and sends each kind of segment, on a director of its own
// for each state.
func (d *director) transitions(e *event) error {
	var rows []struct {
		Start, Event  string
		Before, After []any
		To            string `json:"forwarded_to"`
	}
	d.must(json.Unmarshal(e.Rows, &rows))
	var errs []error
	var lab *director
	start := ""
	for _, r := range rows {
		state, _, _ := strings.Cut(r.Start, "(")
		if lab == nil || r.Start != start {
			if lab != nil {
				lab.close()
			}
			lab, start = newDirector(d.t), r.Start
			lab.advance(e.T)
			lab.settings.ConnReuseMode, lab.settings.SloppyTCP = e.ReuseMode, state == "NONE"
			d.must(lab.update(func(tx *forwarder.Tx) error { return tx.SetSettings(lab.settings) }))
			d.must(lab.ipvsadm(strings.Fields("-A -t 192.0.2.100:80 -s rr"), false))
			d.must(lab.ipvsadm(strings.Fields("-a -t 192.0.2.100:80 -r 10.77.0.11:80"), false))
		}
		lab.ports++
		for _, flags := range paths[state] {
			lab.tcp("10.77.0.10", "192.0.2.100", lab.ports, flags)
		}
		before := lab.of(lab.ports)
		flags := strings.Trim(strings.ReplaceAll(r.Event, "no flags", ""), "()")
		to := lab.tcp("10.77.0.10", "192.0.2.100", lab.ports, flags)
		after := lab.of(lab.ports)
		if to != r.To || !same(before, r.Before) || !same(after, r.After) {
			errs = append(errs, fmt.Errorf("%s + %s: %v, %v, to %s; the kernel %v, %v, to %s", r.Start, r.Event, before, after, to, r.Before, r.After, r.To))
		}
	}
	lab.close()
	return errors.Join(errs...)
}

// of returns the connections of a client's port.
func (d *director) of(port uint16) []conn { return withPort(d.conns(), port) }

func withPort(conns []conn, port uint16) []conn {
	return slices.DeleteFunc(slices.Clone(conns), func(c conn) bool { return !strings.HasSuffix(c.source, ":"+strconv.Itoa(int(port))) })
}

// same compares a connection with [state, seconds], or with nothing.
func same(got []conn, want []any) bool {
	if len(want) == 0 || len(got) == 0 {
		return len(want) == 0 && len(got) == 0
	}
	return len(got) == 1 && got[0].state == want[0].(string) && near(got[0].expires, want[1].(float64))
}

func near(a, b float64) bool { return math.Abs(a-b) <= tolerance }

// counters compares counter_table: after each path of segments the flow's state and the
// destinations' counts. The packets precede the event.
func (d *director) counters(e *event) error {
	var rows [][4]json.RawMessage
	d.must(json.Unmarshal(e.Rows, &rows))
	at := 0
	for i, r := range rows {
		var path []string
		var state string
		var expires float64
		var dests [][]string
		for n, v := range []any{&path, &state, &expires, &dests} {
			d.must(json.Unmarshal(r[n], v))
		}
		if at += len(path); at > len(d.history) {
			return fmt.Errorf("row %d: the packets of %v are missing", i, path)
		}
		m := d.history[at-1]
		got := withPort(m.conns, *m.tx.Sport)
		if !same(got, []any{state, expires}) || m.rows != joinRows(dests) {
			return fmt.Errorf("row %d, after %v: %v %s; the kernel %s %v %s", i, path, got, m.rows, state, expires, joinRows(dests))
		}
	}
	return nil
}

// timers compares timer_history: tables that were read between the packets which precede the event.
func (d *director) timers(e *event) error {
	var tables [][]any
	d.must(json.Unmarshal(e.Conns, &tables))
	var seen [][]conn // each packet's before and after
	for _, m := range d.history {
		seen = append(seen, m.before, m.conns)
	}
	for i, table := range tables {
		n := slices.IndexFunc(seen, func(got []conn) bool { return sameTable(got, table) })
		if n < 0 {
			return fmt.Errorf("table %d, %v, was never seen among\n%v", i, table, seen)
		}
		seen = seen[n+1:]
	}
	return nil
}

// sameTable compares connections with rows that are [proto, port, state, seconds], [port, state,
// seconds] or objects.
func sameTable(got []conn, want []any) bool {
	if len(got) != len(want) {
		return false
	}
	for _, w := range want {
		var port, state, expires any
		switch r := w.(type) {
		case []any:
			r = r[len(r)-3:]
			port, state, expires = r[0], r[1], r[2]
		case map[string]any:
			port, state, expires = r["cport"], r["state"], r["expires"]
		}
		if !same(withPort(got, uint16(port.(float64))), []any{state, expires}) {
			return false
		}
	}
	return true
}

// expiries compares expiry_history: the table and the destinations' counts as time goes by after
// the last packet. A flow that the kernel shows with less than a second to go may have ended here.
func (d *director) expiries(e *event) error {
	var rows [][3]json.RawMessage
	d.must(json.Unmarshal(e.History, &rows))
	start := d.history[len(d.history)-1].t
	var errs []error
	for _, r := range rows {
		var after float64
		var table []any
		var dests [][]string
		for n, v := range []any{&after, &table, &dests} {
			d.must(json.Unmarshal(r[n], v))
		}
		d.advance(start + after)
		got := d.conns()
		ended := 0
		table = slices.DeleteFunc(table, func(w any) bool {
			r := w.([]any)
			gone := r[3].(float64) < 1 && len(withPort(got, uint16(r[1].(float64)))) == 0
			if gone {
				ended++
			}
			return gone
		})
		if !sameTable(got, table) || ended == 0 && d.destRows() != joinRows(dests) {
			errs = append(errs, fmt.Errorf("after %.1f s: %v %s; the kernel %v %s", after, got, d.destRows(), table, joinRows(dests)))
		}
	}
	return errors.Join(errs...)
}

// reenable compares how many connections rs1 had before each pair of probes; where the probes went
// is compared as they are sent.
func (d *director) reenable(e *event) error {
	var rows [][3]any
	d.must(json.Unmarshal(e.History, &rows))
	first := slices.IndexFunc(d.history, func(m moment) bool { return *m.tx.Flags == "R" })
	probes := slices.DeleteFunc(slices.Clone(d.history[first:]), func(m moment) bool { return !m.tx.opens() })
	if len(probes) != 2*len(rows) {
		return fmt.Errorf("%d probes for %d rows", len(probes), len(rows))
	}
	var errs []error
	for i, r := range rows {
		n := 0
		for _, c := range probes[2*i].before {
			if c.dest == "10.77.0.11:80" {
				n++
			}
		}
		to := []any{probes[2*i].to, probes[2*i+1].to}
		if n != int(r[1].(float64)) || !slices.Equal(to, r[2].([]any)) {
			errs = append(errs, fmt.Errorf("%v s after the first RST: %d connections, probes to %v; the kernel %v", r[0], n, to, r[1:]))
		}
	}
	return errors.Join(errs...)
}
