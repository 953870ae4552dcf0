package figures

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"shunt/api"
	"shunt/forwarder"
)

// manyServers is how many realservers of a service Print shows one by one; of more it shows those
// that do not take connections.
const manyServers = 8

// Print tells how a director is on one screen: `shunt status`. With all, every realserver is shown.
func Print(w io.Writer, o *api.Overview, host string, all bool) error {
	p := &printer{w: w}
	p.line("shunt %s on %s, up %s, %s, %s", o.Version, host, Ago(o.Now.Sub(o.Started)), Plural(o.Workers, "worker"), reloads(o))
	for _, w := range Warnings(o) {
		p.line("! %s. %s", api.Printable(w.Title), api.Printable(w.Text))
	}
	p.drift(o)
	if c := o.Confinement; c != nil {
		p.line("%s", Privileges(c))
	}
	for i := range o.Services {
		p.service(&o.Services[i], all)
	}
	p.line("")
	p.frames(o)
	load := 0.0
	if o.Capacity > 0 {
		load = 100 * float64(o.Flows) / float64(o.Capacity)
	}
	p.line("table    %s of %s entries (%.0f %%), %s", Count(o.Flows, " "), Count(o.Capacity, " "), load, Size(o.Table.Bytes))
	for i := range o.Legs {
		l := &o.Legs[i]
		state := "up"
		if !l.Up {
			state = "DOWN"
		}
		p.line("leg      %s %s, received %s, sent %s, ring %d of %d slots in use, %s dropped there, %s not sent", api.Printable(l.Name), state,
			Count(l.Received, " "), Count(l.Sent, " "), l.InUse, l.Slots, Count(l.RingFull, " "), Count(l.NotSent, " "))
	}
	if n := o.Latency.Count(); n > 0 {
		p.line("latency  half of %s sampled frames below %s, 99 %% below %s", Count(n, " "), Seconds(o.Latency.Quantile(0.5)), Seconds(o.Latency.Quantile(0.99)))
	}
	return p.err
}

// Privileges tells what a director has left, and what keeps it from more.
func Privileges(c *api.Confinement) string {
	parts := []string{"may use " + cmp.Or(strings.Join(c.Capabilities, " "), "no capability")}
	if c.NoNewPrivs {
		parts = append(parts, "no_new_privs")
	}
	if c.Landlock > 0 {
		parts = append(parts, fmt.Sprintf("landlock (version %d)", c.Landlock))
	}
	if c.Seccomp {
		parts = append(parts, "seccomp")
	}
	text := strings.Join(parts, ", ")
	if len(c.Missing) > 0 {
		text += "; missing: " + strings.Join(c.Missing, "; ")
	}
	return text
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func reloads(o *api.Overview) string {
	file := api.Printable(o.Config)
	if o.Reload.Taken.IsZero() {
		return file
	}
	return fmt.Sprintf("%s (read again %s ago)", file, Ago(o.Now.Sub(o.Reload.Taken)))
}

// DriftTitle tells in a line how far what runs is from the file; "" if it is not.
func DriftTitle(o *api.Overview) string {
	n := o.Drift.Total
	switch {
	case n == 0 && o.Changes == 0:
		return ""
	case n == 0:
		return Plural(o.Changes, "change") + " since the file was read, after which all is as in the file"
	}
	return fmt.Sprintf("%s from the file, by %s since it was read", Plural(n, "difference"), Plural(o.Changes, "change"))
}

// fewDrift is how many differences from the file Print shows.
const fewDrift = 8

func (p *printer) drift(o *api.Overview) {
	title := DriftTitle(o)
	if title == "" {
		return
	}
	p.line("changed  %s; shunt check --diff shows what a reload would change", title)
	for i := range o.Drift.Differences[:min(len(o.Drift.Differences), fewDrift)] {
		p.line("  %s", &o.Drift.Differences[i])
	}
	if more := o.Drift.Total - fewDrift; more > 0 {
		p.line("  and %d more", more)
	}
}

func (p *printer) service(s *api.Service, all bool) {
	up := 0
	rows := slices.Clone(s.Realservers)
	slices.SortStableFunc(rows, func(a, b api.Realserver) int { return a.Address.Compare(b.Address) })
	for i := range rows {
		if StateOf(&rows[i]).Class == "good" {
			up++
		}
	}
	name := api.Printable(s.Name)
	if what := s.Protocol + " " + s.Address.String(); !strings.Contains(name, s.Address.String()) {
		name += "  " + what
	}
	p.line("\n%s  %s  %d of %d up  %d conn/s  %d pkt/s  %s", name, s.Scheduler, up, len(rows), s.Rates.Flows, s.Rates.Packets, Bits(float64(s.Rates.Bytes)))
	many := len(rows) > manyServers && !all
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for i := range rows {
		r := &rows[i]
		state := StateOf(r)
		if many && state.Class == "good" {
			continue
		}
		_, err := fmt.Fprintf(t, "  %s\t%s\tweight %d\t%d active\t%d inactive\t%d conn/s\t%s\n", r.Address, state.Word, r.Weight, r.Active, r.Inactive, r.Rates.Flows, cmp.Or(r.MAC, "no MAC"))
		p.keep(err)
	}
	p.keep(t.Flush())
	if many && up > 0 {
		p.line("  and %d that are up: --all shows them", up)
	}
}

func (p *printer) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *printer) frames(o *api.Overview) {
	parts := []string{}
	for v := range forwarder.NumVerdicts {
		if n := o.Verdicts[v.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", v, Count(n, " ")))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "none yet")
	}
	p.line("frames   %s", strings.Join(parts, ", "))
}
