package metrics

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	yaml "go.yaml.in/yaml/v3"

	"shunt/api"
)

type fake struct{ o api.Overview }

func (f fake) Overview() api.Overview { return f.o }

// example has every part, and a service twice.
func example() fake {
	web := api.Service{Name: "web", Protocol: "TCP", Address: netip.MustParseAddrPort("192.168.10.100:80"), Scheduler: "wlc",
		Counts: api.Counts{Flows: 1, Packets: 2, Bytes: 3}, Rates: api.Rates{Flows: 4, Packets: 5, Bytes: 6},
		Realservers: []api.Realserver{
			{Address: netip.MustParseAddrPort("10.10.0.12:80"), Weight: 0, Active: 7, Inactive: 8, Available: false, Counts: api.Counts{Flows: 9}},
			{Address: netip.MustParseAddrPort("10.10.0.11:80"), Weight: 3, Available: true},
		}}
	return fake{api.Overview{
		Status: api.Status{Version: "v1", Started: time.Unix(100, 0), Reloads: 2, Flows: 10, Capacity: 1000,
			Verdicts: map[string]uint64{"forwarded": 20, "no service": 21},
			Table:    api.TableCounters{Created: 30}, Answers: api.AnswerCounters{Limited: 33},
			Legs: []api.Leg{{Name: "eth0", Up: true, Slots: 4096, InUse: 5, Received: 40, Sent: 41, RingFull: 42, NotSent: 43, Oversize: 32, ARP: api.ARPCounters{Conflicts: 31}}},
		},
		Guard:   &api.Guard{Missing: "a table", Restored: 50, Exposed: make([]netip.Addr, 2)},
		Workers: 2, Reload: api.Reload{Failures: 1, Last: time.Unix(200, 0), Error: "no"}, Probes: api.Probes{Mean: 1.25, Full: 0.5},
		Latency:    api.Latency{Bounds: []float64{0.001, 0.01}, Counts: []uint64{3, 2, 1}, Sum: 0.5},
		Services:   []api.Service{web, web},
		Neighbours: []api.Neighbour{{Leg: "eth0", State: api.Resolved}, {Leg: "eth0", State: api.Failed}, {Leg: "eth0", State: api.Failed}},
	}}
}

func TestMetrics(t *testing.T) {
	r := NewRegistry(example())
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err) // above all: what comes twice
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	text := expose(t)
	for _, want := range []string{
		`shunt_service_info{address="192.168.10.100:80",protocol="TCP",scheduler="wlc",service="web"} 1`,
		`shunt_service_bytes_total{service="web"} 3`,
		`shunt_service_packet_rate{service="web"} 5`,
		`shunt_realserver_active_connections{realserver="10.10.0.12:80",service="web"} 7`,
		`shunt_realserver_available{realserver="10.10.0.12:80",service="web"} 0`,
		`shunt_realserver_available{realserver="10.10.0.11:80",service="web"} 1`,
		`shunt_realserver_weight{realserver="10.10.0.11:80",service="web"} 3`,
		`shunt_frames_total{verdict="no service"} 21`,
		`shunt_ring_dropped_frames_total{leg="eth0"} 42`,
		`shunt_ring_irregular_frames_total{kind="oversize",leg="eth0"} 32`,
		`shunt_ring_used_slots{leg="eth0"} 5`,
		`shunt_table_events_total{event="created"} 30`,
		`shunt_table_probe_lines 1.25`,
		`shunt_answers_total{result="limited"} 33`,
		`shunt_neighbours{leg="eth0",state="failed"} 2`,
		`shunt_neighbours{leg="eth0",state="stale"} 0`,
		`shunt_vip_conflicts_total{leg="eth0"} 31`,
		`shunt_frame_latency_seconds_bucket{le="0.01"} 5`,
		`shunt_frame_latency_seconds_bucket{le="+Inf"} 6`,
		`shunt_frame_latency_seconds_sum 0.5`,
		`shunt_config_reloads_total{result="failure"} 1`,
		`shunt_guard_missing 1`,
		`shunt_guard_restored_total 50`,
		`shunt_guard_exposed_vips 2`,
		`shunt_config_last_reload_successful 0`,
		`shunt_config_last_reload_timestamp_seconds 200`,
		`shunt_build_info{goversion=`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
}

// number gives each field of numbers below v another value, and calls fn with its place.
func number(v reflect.Value, place string, next *uint64, fn func(place string, n uint64)) {
	if !v.CanSet() {
		return // of an address
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			number(v.Field(i), place+"."+v.Type().Field(i).Name, next, fn)
		}
		return
	case reflect.Slice:
		for i := range v.Len() {
			number(v.Index(i), place, next, fn)
		}
		return
	case reflect.Uint64:
		v.SetUint(*next)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*next))
	default:
		return
	}
	fn(place, *next)
	*next++
}

// Each field of the counters is a metric: none is forgotten, and none is always 0.
func TestEveryCounterIsExported(t *testing.T) {
	o := api.Overview{
		Status:   api.Status{Rings: make([]api.RingCounters, 2), Legs: []api.Leg{{Name: "eth0"}}},
		Services: []api.Service{{Name: "web", Realservers: []api.Realserver{{Address: netip.MustParseAddrPort("10.10.0.11:80")}}}},
	}
	want, next := map[uint64]string{}, uint64(1_000_001)
	for place, v := range map[string]any{
		"answers": &o.Answers, "table": &o.Table, "rings": &o.Rings, "legs": &o.Legs, "services": &o.Services,
		"reloads": &o.Reloads, "changes": &o.Changes, "flows": &o.Flows, "capacity": &o.Capacity,
	} {
		number(reflect.ValueOf(v).Elem(), place, &next, func(place string, n uint64) { want[n] = place })
	}
	got := map[uint64]bool{}
	for _, m := range regexp.MustCompile(`(?m) ([0-9.e+]+)$`).FindAllStringSubmatch(scrape(fake{o}), -1) {
		if f, err := strconv.ParseFloat(m[1], 64); err == nil {
			got[uint64(f)] = true
		}
	}
	// The mark is a name; thresholds are what the configuration says.
	settings := map[string]bool{"services.Mark": true, "services.Realservers.Upper": true, "services.Realservers.Lower": true}
	for n, place := range want {
		if !got[n] && !settings[place] {
			t.Errorf("%s is not exported", place)
		}
	}
	if len(want) < 50 {
		t.Errorf("only %d fields were found", len(want))
	}
}

// expose is what a scrape of the example gets.
func expose(t *testing.T) string {
	t.Helper()
	return scrape(example())
}

func scrape(d Director) string {
	w := httptest.NewRecorder()
	Handler(d).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// names are those of all our metrics.
func names(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, d := range all {
		m := regexp.MustCompile(`fqName: "([a-z_]+)"`).FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("no name in %v", d)
		}
		out[m[1]] = true
	}
	return out
}

// uses checks that a text speaks of metrics that there are, and of a good part of them.
func uses(t *testing.T, file, text string, atLeast int) {
	t.Helper()
	have, used := names(t), map[string]bool{}
	for _, n := range regexp.MustCompile(`shunt_[a-z_]+`).FindAllString(text, -1) {
		if n = strings.TrimSuffix(n, "_bucket"); !have[n] {
			t.Errorf("%s uses %s, which does not exist", file, n)
		}
		used[n] = true
	}
	if len(used) < atLeast {
		t.Errorf("%s uses %d metrics: is it the right file?", file, len(used))
	}
}

func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../packaging/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title  string
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || len(d.Panels) < 10 {
		t.Errorf("the dashboard %q has %d panels", d.Title, len(d.Panels))
	}
	for _, p := range d.Panels {
		if p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q of type %s shows nothing", p.Title, p.Type)
		}
	}
	uses(t, "the dashboard", string(text), 20)
}

func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../../packaging/prometheus-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For string
				Labels           map[string]string
				Annotations      map[string]string
			}
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			n++
			if r.Alert == "" || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("rule %+v lacks something", r)
			}
		}
	}
	if n < 8 {
		t.Errorf("there are %d rules", n)
	}
	uses(t, "the alert rules", string(text), 8)
}

// docs/monitoring.md has a row for each metric, and for no other.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	have, told := names(t), map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(shunt_[a-z_]+)").FindAllStringSubmatch(string(text), -1) {
		told[m[1]] = true
		if !have[m[1]] {
			t.Errorf("docs/monitoring.md describes %s, which does not exist", m[1])
		}
	}
	for n := range have {
		if !told[n] {
			t.Errorf("docs/monitoring.md does not describe %s", n)
		}
	}
}
