// Package top is `shunt top`: the director in a terminal, as it is now. The model is Bubble Tea's;
// what it shows comes from the control socket, and what it changes goes there.
package top

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"shunt/api"
)

// Director is the one that is looked at.
type Director interface {
	Overview(ctx context.Context) (api.Overview, error)
	Apply(ctx context.Context, changes []api.Change) error
}

// patience is how long the director may take to answer.
const patience = 5 * time.Second

// A Model is the state of the screen.
type Model struct {
	director Director
	host     string
	interval time.Duration

	now, before *api.Overview // the last two answers
	err         error         // why there is no later one
	packets     []float64     // a second, of all services, the last at the end

	width, height int
	sort          int    // of sorts
	filter        string // what the names and addresses of rows contain
	selected      string // key of the row
	top           int    // first line of the list that is shown
	mode          mode
	input         string // as typed, of filtering and weighing
	note          string // what became of a change
	wrong         bool   // and whether that was nothing
}

// mode is what keys mean.
type mode int

const (
	looking mode = iota
	filtering
	draining // asks whether the selected realserver is to be drained
	weighing // asks for its weight
	helping
)

// The orders of realservers within a service.
var sorts = []struct {
	name string
	by   func(a, b *row) int
}{
	{"address", func(a, b *row) int { return a.rs.Address.Compare(b.rs.Address) }},
	{"conn/s", func(a, b *row) int { return -compare(a.flows, b.flows) }},
	{"pkt/s", func(a, b *row) int { return -compare(a.packets, b.packets) }},
	{"bit/s", func(a, b *row) int { return -compare(a.bytes, b.bytes) }},
	{"active", func(a, b *row) int { return int(b.rs.Active) - int(a.rs.Active) }},
	{"weight", func(a, b *row) int { return int(b.rs.Weight) - int(a.rs.Weight) }},
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// New returns a Model with a first answer of the director. host is whose name is shown.
func New(d Director, host string, first api.Overview, interval time.Duration) *Model {
	plain(&first)
	return &Model{director: d, host: host, interval: interval, now: &first, width: 80, height: 24}
}

// Messages.
type (
	tick   time.Time
	answer struct {
		o   api.Overview
		err error
	}
	changed struct {
		what string
		err  error
	}
)

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return m.wait() }

func (m *Model) wait() tea.Cmd {
	return tea.Tick(m.interval, func(t time.Time) tea.Msg { return tick(t) })
}

func (m *Model) ask() tea.Msg {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o, err := m.director.Overview(ctx)
	return answer{o, err}
}

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tick:
		return m, m.ask
	case answer:
		m.learn(msg)
		return m, m.wait()
	case changed:
		m.note, m.wrong = msg.what, msg.err != nil
		if msg.err != nil {
			m.note = msg.what + ": " + msg.err.Error()
		}
		return m, nil
	case tea.PasteMsg:
		if m.mode == filtering || m.mode == weighing {
			m.input += strings.TrimSpace(msg.Content)
		}
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

// learn takes the director's answer.
func (m *Model) learn(a answer) {
	if m.err = a.err; a.err != nil {
		return
	}
	plain(&a.o)
	m.before, m.now = m.now, &a.o
	if !m.before.Started.Equal(m.now.Started) { // another director
		m.before, m.packets = nil, nil
		return
	}
	if m.packets = append(m.packets, m.totals().packets); len(m.packets) > 200 {
		m.packets = m.packets[1:]
	}
}

// plain takes from names what a terminal would obey.
func plain(o *api.Overview) {
	for i := range o.Services {
		s := &o.Services[i]
		s.Name = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return -1
			}
			return r
		}, s.Name)
	}
}

func (m *Model) key(msg tea.KeyPressMsg) tea.Cmd {
	name := msg.String()
	if name == "ctrl+c" {
		return tea.Quit
	}
	switch m.mode {
	case filtering, weighing:
		m.typed(name, msg.Text)
		if name == "enter" {
			return m.entered()
		}
		return nil
	case draining:
		m.mode = looking
		if name == "y" {
			return m.setWeight(0)
		}
		m.note, m.wrong = "nothing was changed", false
		return nil
	case helping:
		m.mode = looking
		return nil
	}
	m.note = ""
	rows := m.servers()
	switch name {
	case "q", "esc":
		if name == "esc" && m.filter != "" {
			m.filter = ""
			return nil
		}
		return tea.Quit
	case "up", "k":
		m.move(rows, -1)
	case "down", "j":
		m.move(rows, 1)
	case "pgup":
		m.move(rows, -10)
	case "pgdown", "space":
		m.move(rows, 10)
	case "home", "g":
		m.move(rows, -len(rows))
	case "end", "G":
		m.move(rows, len(rows))
	case "s":
		m.sort = (m.sort + 1) % len(sorts)
	case "S":
		m.sort = (m.sort + len(sorts) - 1) % len(sorts)
	case "/":
		m.mode, m.input = filtering, m.filter
	case "?", "h":
		m.mode = helping
	case "d", "w":
		r := m.current(rows)
		switch {
		case r == nil:
			m.note, m.wrong = "there is no realserver to select", true
		case name == "w":
			m.mode, m.input = weighing, ""
		case r.rs.Weight == 0:
			m.note, m.wrong = r.rs.Address.String()+" is drained already: w gives it a weight", true
		default:
			m.mode = draining
		}
	}
	return nil
}

// typed edits the input.
func (m *Model) typed(name, text string) {
	switch {
	case name == "esc":
		m.mode = looking
	case name == "backspace":
		if r := []rune(m.input); len(r) > 0 {
			m.input = string(r[:len(r)-1])
		}
	case name == "ctrl+u":
		m.input = ""
	case text != "" && len(m.input) < 60:
		m.input += text
	}
	if m.mode == filtering {
		m.filter = m.input
	}
}

// entered takes the input.
func (m *Model) entered() tea.Cmd {
	was := m.mode
	m.mode = looking
	if was == filtering {
		return nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(m.input), 10, 16)
	if err != nil {
		m.note, m.wrong = fmt.Sprintf("%q is no weight: type a number from 0 to 65535", m.input), true
		return nil
	}
	return m.setWeight(int32(n))
}

// move selects another realserver.
func (m *Model) move(rows []*row, by int) {
	if len(rows) == 0 {
		return
	}
	at := max(slices.IndexFunc(rows, func(r *row) bool { return r.key() == m.selected }), 0)
	m.selected = rows[min(max(at+by, 0), len(rows)-1)].key()
}

// current is the selected realserver, the first if none is; nil if there is none.
func (m *Model) current(rows []*row) *row {
	for _, r := range rows {
		if r.key() == m.selected {
			return r
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return rows[0]
}

// setWeight has the director give the selected realserver another weight.
func (m *Model) setWeight(weight int32) tea.Cmd {
	r := m.current(m.servers())
	if r == nil {
		return nil
	}
	what := fmt.Sprintf("%s of %s has weight %d", r.rs.Address, r.service.Name, weight)
	if weight == 0 {
		what = fmt.Sprintf("%s of %s is draining: it gets no new connections (until the file is read again)", r.rs.Address, r.service.Name)
	}
	failed := fmt.Sprintf("%s of %s stays as it is", r.rs.Address, r.service.Name)
	change := weightOf(r.service, r.rs, weight)
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := m.director.Apply(ctx, []api.Change{change}); err != nil {
			return changed{failed, err}
		}
		return changed{what, nil}
	}
}

// weightOf is the change that gives a realserver another weight and leaves its thresholds.
func weightOf(s *api.Service, r *api.Realserver, weight int32) api.Change {
	v := &api.VirtualService{Mark: s.Mark, V6: r.Address.Addr().Is6()}
	if s.Mark == 0 { // by name, as a service of several matches has no address that would name it
		v = &api.VirtualService{Name: s.Name}
	}
	return api.Change{Op: api.OpEditServer, Service: v, Server: &api.VirtualServer{
		Address: r.Address.Addr(), Port: r.Address.Port(), Weight: weight, Upper: r.Upper, Lower: r.Lower,
	}}
}
