package top

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"shunt/forwarder"
	"shunt/internal/figures"
)

// Styles use the terminal's own sixteen colours, which its owner has chosen; without colours what
// they say is in the words.
var (
	bold   = lipgloss.NewStyle().Bold(true)
	dim    = lipgloss.NewStyle().Foreground(lipgloss.BrightBlack)
	green  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	yellow = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	red    = lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true)
	blue   = lipgloss.NewStyle().Foreground(lipgloss.Blue)
	head   = lipgloss.NewStyle().Bold(true).Reverse(true)
)

var classes = map[string]lipgloss.Style{"good": green, "warn": yellow, "bad": red, "off": dim}

// View implements tea.Model.
func (m *Model) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	v.WindowTitle = "shunt top: " + m.host
	return v
}

// leastList is how many lines the list has at least, with its titles, where there are so many.
const leastList = 6

// screen is all lines, each cut to the width and no more of them than the height.
func (m *Model) screen() string {
	if m.mode == helping {
		return m.cut(m.help())
	}
	above := m.header()
	below := m.footer()
	// The list is what people came for: warnings and figures give way to it.
	above = above[:min(len(above), max(m.height-len(below)-leastList, 1))]
	room := max(m.height-len(above)-len(below), 1)
	return m.cut(slices.Concat(above, m.list(room), below))
}

func (m *Model) cut(lines []string) string {
	lines = lines[:min(len(lines), max(m.height, 1))]
	for i, l := range lines {
		lines[i] = ansi.Truncate(l, m.width, "…")
	}
	return strings.Join(lines, "\n")
}

// sides puts one text at the left and another at the right, if there is room for both.
func (m *Model) sides(left, right string) string {
	gap := m.width - lipgloss.Width(left) - lipgloss.Width(right)
	if gap < 2 {
		return left
	}
	return left + strings.Repeat(" ", gap) + right
}

func (m *Model) header() []string {
	o := m.now
	lines := []string{m.sides(bold.Render("shunt on "+m.host)+dim.Render(" up "+figures.Ago(o.Now.Sub(o.Started))+" · "+o.Version), o.Now.Format("15:04:05"))}
	t := m.totals()
	first := fmt.Sprintf("%s pkt/s  %s conn/s  %s", number(figures.Short(t.packets), 5), number(figures.Short(t.flows), 5), figures.Bits(t.bytes))
	if minute := &o.Latency; minute.Count() > 0 {
		first += dim.Render(fmt.Sprintf("  p50 %s  p99 %s", figures.Seconds(minute.Quantile(0.5)), figures.Seconds(minute.Quantile(0.99))))
	}
	lines = append(lines, m.sides(first, blue.Render(sparkline(m.packets, min(40, m.width-lipgloss.Width(first)-2)))))
	load := 0.0
	if o.Capacity > 0 {
		load = float64(o.Flows) / float64(o.Capacity)
	}
	table := fmt.Sprintf("table %s %s of %s", bar(load, 12), figures.Count(o.Flows, " "), figures.Count(o.Capacity, " "))
	for i := range o.Legs {
		l := &o.Legs[i]
		part := 0.0
		if l.Slots > 0 {
			part = float64(l.InUse) / float64(l.Slots)
		}
		state := ""
		if !l.Up {
			state = red.Render(" down")
		}
		next := fmt.Sprintf("   ring %s%s %s", l.Name, state, bar(part, 8))
		if l.RingFull > 0 {
			next += yellow.Render(fmt.Sprintf(" %s dropped", figures.Short(float64(l.RingFull))))
		}
		table += next
	}
	lines = append(lines, table)
	if m.err != nil {
		lines = append(lines, red.Render("The director does not answer: "+firstLine(m.err.Error())))
	}
	warnings := figures.Warnings(o)
	for i, w := range warnings {
		if i == 2 && len(warnings) > 3 {
			lines = append(lines, red.Render(fmt.Sprintf("! %d more warnings: shunt status", len(warnings)-2)))
			break
		}
		lines = append(lines, red.Render("! "+w.Title+".")+" "+w.Text)
	}
	return append(lines, "")
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// number sets text to the right in a field.
func number(text string, width int) string {
	if n := width - lipgloss.Width(text); n > 0 {
		return strings.Repeat(" ", n) + text
	}
	return text
}

// text sets text to the left in a field, cut if need be.
func text(s string, width int) string {
	s = ansi.Truncate(s, width, "…")
	return s + strings.Repeat(" ", max(width-lipgloss.Width(s), 0))
}

// bar draws a part of a whole, 0 to 1.
func bar(part float64, width int) string {
	n := int(min(max(part, 0), 1)*float64(width) + 0.5)
	if part > 0 && n == 0 {
		n = 1
	}
	style := blue
	if part > 0.9 {
		style = red
	}
	return style.Render(strings.Repeat("█", n)) + dim.Render(strings.Repeat("░", width-n))
}

// sparkline draws the last rates as bars of eight heights.
func sparkline(s []float64, width int) string {
	if width < 8 || len(s) < 2 {
		return ""
	}
	s = s[max(len(s)-width, 0):]
	top := slices.Max(s)
	var b strings.Builder
	for _, x := range s {
		level := 0
		if top > 0 {
			level = int(x / top * 7)
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[level])
	}
	return b.String()
}

// column is one of the list. Those of low rank go first when the terminal is narrow.
type column struct {
	name  string
	width int
	rank  int
	left  bool
	cell  func(r *row) string
}

func columns(address int) []column {
	n32 := func(n int32) string { return strconv.Itoa(int(n)) }
	return []column{
		{"REALSERVER", address, 9, true, func(r *row) string { return r.rs.Address.String() }},
		{"STATE", 9, 8, true, func(r *row) string { s := figures.StateOf(r.rs); return classes[s.Class].Render(s.Word) }},
		{"WEIGHT", 7, 6, false, func(r *row) string { return n32(r.rs.Weight) }},
		{"ACTIVE", 7, 7, false, func(r *row) string { return n32(r.rs.Active) }},
		{"INACTIVE", 8, 3, false, func(r *row) string { return n32(r.rs.Inactive) }},
		{"CONN/S", 7, 5, false, func(r *row) string { return figures.Short(r.flows) }},
		{"PKT/S", 6, 5, false, func(r *row) string { return figures.Short(r.packets) }},
		{"BIT/S", 7, 4, false, func(r *row) string { return figures.Short(8 * r.bytes) }},
		{"SHARE", 10, 2, true, func(r *row) string { return bar(r.share, 10) }},
		{"TOTAL", 7, 1, false, func(r *row) string { return figures.Short(float64(r.rs.Counts.Flows)) }},
		{"MAC", 17, 0, true, func(r *row) string { return r.rs.MAC }},
	}
}

// fitting leaves out columns until the rest fits.
func (m *Model) fitting(rows []*row) []column {
	address := len("REALSERVER")
	for _, r := range rows {
		if r.rs != nil {
			address = max(address, len(r.rs.Address.String()))
		}
	}
	cols := columns(min(address, max(m.width-16, 12)))
	for rank := 0; rank < 8; rank++ {
		sum := 1
		for _, c := range cols {
			sum += c.width + 1
		}
		if sum <= m.width {
			break
		}
		cols = slices.DeleteFunc(cols, func(c column) bool { return c.rank == rank })
	}
	return cols
}

// line puts cells side by side.
func line(cols []column, cell func(c *column) string) string {
	var b strings.Builder
	for i := range cols {
		c := &cols[i]
		b.WriteByte(' ')
		if c.left {
			b.WriteString(text(cell(c), c.width))
		} else {
			b.WriteString(number(cell(c), c.width))
		}
	}
	return b.String()
}

// list shows services and realservers in room lines, such that the selected one is seen.
func (m *Model) list(room int) []string {
	rows := m.rows()
	cols := m.fitting(rows)
	titles := head.Render(text(" "+line(cols, func(c *column) string {
		if strings.EqualFold(c.name, sorts[m.sort].name) {
			return "▾" + c.name
		}
		return c.name
	}), m.width))
	current := m.current(m.servers())
	var lines []string
	at := 0
	for _, r := range rows {
		if r.rs == nil {
			lines = append(lines, m.serviceLine(r))
			continue
		}
		l := line(cols, func(c *column) string { return c.cell(r) })
		if current != nil && r.key() == current.key() {
			at = len(lines)
			l = bold.Render(">") + bold.Render(ansi.Strip(l))
			l = strings.Replace(l, figures.StateOf(r.rs).Word, classes[figures.StateOf(r.rs).Class].Render(figures.StateOf(r.rs).Word), 1)
		} else {
			l = " " + l
		}
		lines = append(lines, l)
	}
	if len(rows) == 0 {
		what := "There is no service."
		if m.filter != "" {
			what = fmt.Sprintf("Nothing contains %q: esc shows all.", m.filter)
		}
		lines = append(lines, "  "+what)
	}
	room--
	// The service above the first of its realservers is to be seen too.
	m.top = min(max(m.top, at-room+1), max(at-1, 0), max(len(lines)-room, 0))
	shown := lines[m.top:min(m.top+max(room, 0), len(lines))]
	out := append([]string{titles}, shown...)
	for len(out) < room+1 {
		out = append(out, "")
	}
	return out
}

func (m *Model) serviceLine(r *row) string {
	s := r.service
	style := green
	if r.up == 0 {
		style = red
	} else if r.up < r.of {
		style = yellow
	}
	left := bold.Render(" "+s.Name) + "  " + style.Render(fmt.Sprintf("%d/%d up", r.up, r.of))
	if what := s.Protocol + " " + s.Address.String(); !strings.Contains(s.Name, s.Address.String()) {
		left += "  " + dim.Render(what+" "+s.Scheduler)
	} else {
		left += "  " + dim.Render(s.Scheduler)
	}
	return m.sides(left, dim.Render(fmt.Sprintf("%s conn/s  %s pkt/s  %s", figures.Short(r.flows), figures.Short(r.packets), figures.Bits(r.bytes))))
}

// footer is the verdicts, and what keys there are or what is asked.
func (m *Model) footer() []string {
	lines := []string{m.verdicts()}
	r := m.current(m.servers())
	switch {
	case m.mode == filtering:
		return append(lines, bold.Render("Show what contains: ")+m.input+"█"+dim.Render("   enter keeps it, esc too"))
	case m.mode == draining && r != nil:
		return append(lines, yellow.Bold(true).Render(fmt.Sprintf("Drain %s of %s?", r.rs.Address, r.service.Name))+
			" "+bold.Render("y")+" does, any other key does not"+dim.Render("; its "+figures.Plural(r.rs.Active, "active connection")+" may go on"))
	case m.mode == weighing && r != nil:
		return append(lines, bold.Render(fmt.Sprintf("Weight of %s (now %d): ", r.rs.Address, r.rs.Weight))+m.input+"█"+dim.Render("   enter sets it, esc does not"))
	case m.note != "":
		if m.wrong {
			return append(lines, red.Render(m.note))
		}
		return append(lines, green.Render(m.note))
	}
	keys := fmt.Sprintf("q quit  ? help  ↑↓ select  d drain  w weight  s sort: %s  / filter", sorts[m.sort].name)
	if m.filter != "" {
		keys = fmt.Sprintf("filter %q (esc shows all)  ", m.filter) + keys
	}
	return append(lines, dim.Render(keys))
}

// verdicts says in a line what becomes of frames, losses first after those that are forwarded.
func (m *Model) verdicts() string {
	type item struct {
		v    forwarder.Verdict
		n    uint64
		rate float64
	}
	var items []item
	seconds := 0.0
	if m.before != nil {
		seconds = m.now.Now.Sub(m.before.Now).Seconds()
	}
	for v := range forwarder.NumVerdicts {
		n := m.now.Verdicts[v.String()]
		it := item{v: v, n: n}
		if seconds > 0 && n >= m.before.Verdicts[v.String()] {
			it.rate = float64(n-m.before.Verdicts[v.String()]) / seconds
		}
		if n > 0 {
			items = append(items, it)
		}
	}
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(b2i(a.v != forwarder.Forwarded), b2i(b.v != forwarder.Forwarded)), cmp.Compare(b.rate, a.rate), cmp.Compare(b.n, a.n))
	})
	parts := []string{bold.Render("frames")}
	for _, it := range items {
		s := fmt.Sprintf("%s %s", it.v, figures.Short(float64(it.n)))
		if it.rate > 0 {
			s += fmt.Sprintf(" (%s/s)", figures.Short(it.rate))
		}
		if it.v >= forwarder.NoService && it.rate > 0 {
			s = yellow.Render(s)
		}
		parts = append(parts, s)
	}
	if len(items) == 0 {
		parts = append(parts, "none yet")
	}
	return strings.Join(parts, "  ")
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *Model) help() []string {
	return []string{
		bold.Render("shunt top"), "",
		"  ↑ ↓ k j          select a realserver; pgup pgdn home end go further",
		"  s S              sort by " + sortNames(),
		"  /                show only what contains a text: names, addresses, states",
		"  d                drain the selected realserver: it gets no new connections",
		"  w                give it another weight; that ends a drain too",
		"  q ctrl+c         end", "",
		"Changes last until the configuration is read again.",
		"Rates are those of the last " + m.interval.String() + ". Bits are from clients: answers do not pass the director.",
		"SHARE: of the service's connections. TOTAL: connections since it was made.",
		"p50, p99: time of sampled frames in the director, since its start.", "",
		dim.Render("any key goes back"),
	}
}

func sortNames() string {
	var names []string
	for _, s := range sorts {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}
