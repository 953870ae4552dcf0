package top

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"shunt/api"
)

var update = flag.Bool("update", false, "write the golden screens anew")

// fake is a director that notes what is asked of it.
type fake struct {
	changes []api.Change
	refuse  error
}

func (f *fake) Overview(context.Context) (api.Overview, error) { return overview(9, 0), nil }
func (f *fake) Apply(_ context.Context, c []api.Change) error {
	f.changes = append(f.changes, c...)
	return f.refuse
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// overview is how things are some seconds after the start, with n packets.
func overview(seconds int, n uint64) api.Overview {
	server := func(address string, share uint64, weight, active int32) api.Realserver {
		r := api.Realserver{Address: netip.MustParseAddrPort(address), Weight: weight, Active: active, Inactive: active / 2, Available: true,
			Counts: api.Counts{Flows: n * share / 1000, Packets: n * share / 100, Bytes: n * share}}
		if address != "10.10.0.99:443" {
			r.MAC, r.Leg = "02:00:00:00:01:01", "eth0"
		}
		return r
	}
	return api.Overview{
		Status: api.Status{Version: "v1", Started: start, Flows: 120, Capacity: 1000,
			Verdicts: map[string]uint64{"forwarded": n, "no service": n / 10, "unresolved MAC": 2},
			Legs:     []api.Leg{{Name: "eth0", Up: true, Slots: 4096, InUse: 1024, RingFull: 3}}},
		Now: start.Add(time.Duration(seconds) * time.Second), Workers: 1,
		Latency: api.Latency{Bounds: []float64{1e-5, 1e-4}, Counts: []uint64{90, 10, 0}},
		Services: []api.Service{
			{Name: "web", Protocol: "TCP", Address: netip.MustParseAddrPort("192.168.10.100:80"), Scheduler: "wlc", Counts: api.Counts{Flows: n / 10, Packets: n, Bytes: 100 * n},
				Realservers: []api.Realserver{server("10.10.0.12:80", 70, 1, 30), server("10.10.0.9:80", 30, 3, 60), server("10.10.0.14:80", 0, 0, 2)}},
			{Name: "shop\x1b[31m", Mark: 7, Protocol: "TCP", Address: netip.MustParseAddrPort("192.168.10.101:443"), Scheduler: "wrr", Realservers: []api.Realserver{server("10.10.0.99:443", 0, 1, 0)}},
		},
	}
}

// script runs keys and messages on a model and returns it.
func script(f *fake, steps ...any) *Model {
	m := New(f, "lb1", overview(10, 1000), time.Second)
	for _, s := range append([]any{answer{o: overview(12, 5000)}}, steps...) {
		var msg tea.Msg = s
		if k, ok := s.(string); ok {
			msg = press(k)
		}
		_, cmd := m.Update(msg)
		if _, ok := msg.(answer); ok || cmd == nil {
			continue // the next tick is not waited for
		}
		if c, ok := cmd().(changed); ok { // what a key sets off
			m.Update(c)
		}
	}
	return m
}

// press is a key by its name, or a letter.
func press(name string) tea.KeyPressMsg {
	switch name {
	case "enter":
		return tea.KeyPressMsg{Code: tea.KeyEnter}
	case "esc":
		return tea.KeyPressMsg{Code: tea.KeyEscape}
	case "down":
		return tea.KeyPressMsg{Code: tea.KeyDown}
	case "end":
		return tea.KeyPressMsg{Code: tea.KeyEnd}
	case "backspace":
		return tea.KeyPressMsg{Code: tea.KeyBackspace}
	}
	return tea.KeyPressMsg{Code: []rune(name)[0], Text: name}
}

func TestScreens(t *testing.T) {
	size := func(w, h int) tea.Msg { return tea.WindowSizeMsg{Width: w, Height: h} }
	for name, steps := range map[string][]any{
		"wide":      {size(120, 20)},
		"eighty":    {},
		"narrow":    {size(44, 16)},
		"low":       {size(80, 9), "end"},
		"tiny":      {size(12, 3)},
		"sorted":    {"s", "s"},
		"filtered":  {"/", "9", "9"},
		"nothing":   {"/", "x", "y", "enter"},
		"asked":     {"down", "d"},
		"not":       {"down", "d", "n"},
		"drained":   {"down", "d", "y"},
		"weighing":  {"w", "1", "2", "backspace"},
		"nonsense":  {"w", "x", "enter"},
		"already":   {"down", "down", "d"},
		"help":      {"?"},
		"noanswer":  {answer{err: errors.New("no director answers\non x")}},
		"restarted": {answer{o: func() api.Overview { o := overview(20, 3); o.Started = start.Add(time.Second); return o }()}},
	} {
		t.Run(name, func(t *testing.T) {
			m := script(&fake{}, steps...)
			got := regexp.MustCompile(`(?m) +$`).ReplaceAllString(ansi.Strip(m.screen()), "") + "\n"
			lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			if len(lines) > m.height {
				t.Errorf("%d lines on %d", len(lines), m.height)
			}
			for _, l := range lines {
				if ansi.StringWidth(l) > m.width {
					t.Errorf("a line of %d columns on %d: %q", ansi.StringWidth(l), m.width, l)
				}
			}
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("-want +got (go test ./internal/top -update writes it anew)\n%s", d)
			}
		})
	}
}

// Every size of terminal gets lines that fit.
func TestSizes(t *testing.T) {
	m := script(&fake{})
	for w := 1; w < 140; w += 3 {
		for h := 1; h < 30; h += 2 {
			m.Update(tea.WindowSizeMsg{Width: w, Height: h})
			lines := strings.Split(m.screen(), "\n")
			if len(lines) > h {
				t.Fatalf("%d by %d: %d lines", w, h, len(lines))
			}
			for _, l := range lines {
				if ansi.StringWidth(l) > w {
					t.Fatalf("%d by %d: %q", w, h, l)
				}
			}
		}
	}
}

// What is drained is the selected one, with the thresholds that it has, and only after yes.
func TestDrain(t *testing.T) {
	f := &fake{}
	script(f, "down", "d", "n", "down", "d", "up", "d", "enter")
	if len(f.changes) != 0 {
		t.Fatalf("changed without a yes: %+v", f.changes)
	}
	script(f, "down", "d", "y")
	if len(f.changes) != 1 {
		t.Fatalf("%d changes", len(f.changes))
	}
	c := f.changes[0]
	if c.Op != api.OpEditServer || c.Service.Name != "web" ||
		c.Server.Address.String() != "10.10.0.12" || c.Server.Port != 80 || c.Server.Weight != 0 {
		t.Errorf("%+v %+v %+v", c, c.Service, c.Server)
	}
	m := script(f, "end", "w", "5", "enter")
	c = f.changes[len(f.changes)-1]
	if c.Service.Mark != 7 || c.Service.V6 || c.Server.Weight != 5 || c.Server.Address.String() != "10.10.0.99" {
		t.Errorf("of a service with a mark: %+v %+v", c.Service, c.Server)
	}
	if m.wrong || !strings.Contains(m.note, "has weight 5") {
		t.Errorf("note %q", m.note)
	}
	f.refuse = errors.New("no such service")
	if m := script(f, "d", "y"); !m.wrong || !strings.Contains(m.note, "stays as it is: no such service") {
		t.Errorf("note %q", m.note)
	}
	r := api.Realserver{Address: netip.MustParseAddrPort("[fd00::1]:80"), Upper: 9, Lower: 4}
	change := weightOf(&api.Service{Name: "dns"}, &r, 0)
	if change.Server.Upper != 9 || change.Server.Lower != 4 || change.Service.Name != "dns" {
		t.Errorf("%+v", change)
	}
}

func TestEnds(t *testing.T) {
	for _, key := range []tea.KeyPressMsg{press("q"), press("esc"), {Code: 'c', Mod: tea.ModCtrl}} {
		m := script(&fake{})
		if _, cmd := m.Update(key); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s does not end it", key)
		}
	}
	m := script(&fake{}, "/", "q", "esc")
	if m.filter != "q" {
		t.Errorf("filter %q", m.filter)
	}
	if _, cmd := m.Update(press("esc")); cmd != nil || m.filter != "" {
		t.Error("esc does not end the filter first")
	}
}

// A tick asks, and an answer waits for the next tick.
func TestAsks(t *testing.T) {
	m := New(&fake{}, "lb1", overview(1, 1), time.Millisecond)
	if msg, ok := m.Init()().(tick); !ok {
		t.Fatalf("Init leads to %T", msg)
	}
	_, cmd := m.Update(tick(time.Now()))
	a, ok := cmd().(answer)
	if !ok || a.o.Now != overview(9, 0).Now {
		t.Fatalf("a tick leads to %+v", a)
	}
	if _, cmd = m.Update(a); cmd == nil {
		t.Fatal("after an answer nothing more happens")
	}
	if _, ok := cmd().(tick); !ok {
		t.Error("after an answer there is no tick")
	}
}
