package figures

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"shunt/api"
)

func TestStates(t *testing.T) {
	for want, r := range map[string]api.Realserver{
		"no answer": {Weight: 1, Available: true},
		"drained":   {MAC: "x", Available: true, Drained: true},
		"full":      {MAC: "x", Weight: 1},
		"draining":  {MAC: "x", Available: true},
		"up":        {MAC: "x", Available: true, Weight: 1},
	} {
		if got := StateOf(&r).Word; got != want {
			t.Errorf("%+v is %q, want %q", r, got, want)
		}
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		Count(0, " "): "0", Count(999, " "): "999", Count(uint64(1234567), "_"): "1_234_567",
		Short(0): "0", Short(0.5): "0.50", Short(999): "999", Short(1000): "1k", Short(12345): "12.3k", Short(2.5e9): "2.50G",
		Bits(125): "1\u00a0kbit/s", Bits(1): "8\u00a0bit/s", Size(1_500_000): "1.50\u00a0MB", Size(3): "3\u00a0B",
		Seconds(0): "–", Seconds(12.5e-6): "12.5\u00a0µs", Seconds(0.25): "250\u00a0ms", Seconds(1): "1\u00a0s",
		Ago(59 * time.Second): "59 s", Ago(61 * time.Second): "1 min 1 s", Ago(25 * time.Hour): "1 d 1 h", Ago(2 * time.Hour): "2 h 0 min",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// example is a director with a service of three realservers, and one of many.
func example() api.Overview {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := api.Overview{
		Status: api.Status{Version: "v1", Started: start, Config: "/etc/shunt/shunt.yaml", Flows: 120, Capacity: 1000,
			Verdicts: map[string]uint64{"forwarded": 12345, "no service": 3},
			Legs:     []api.Leg{{Name: "eth0", Up: true, Slots: 4096, InUse: 7, Received: 5000, Sent: 4000}, {Name: "eth1", Interface: "eth1", RingFull: 9}}, Table: api.TableCounters{Bytes: 65_000}},
		Now: start.Add(time.Hour), Workers: 2, Reload: api.Reload{Last: start.Add(59 * time.Minute), Taken: start.Add(59 * time.Minute)},
		Latency: api.Latency{Bounds: []float64{1e-5, 1e-4}, Counts: []uint64{900, 100, 0}},
		Services: []api.Service{
			{Name: "web", Protocol: "TCP", Address: netip.MustParseAddrPort("192.168.10.100:80"), Scheduler: "wlc", Rates: api.Rates{Flows: 10, Packets: 100, Bytes: 125_000},
				Realservers: []api.Realserver{
					{Address: netip.MustParseAddrPort("10.10.0.12:80"), MAC: "02:00:00:00:01:02", Weight: 1, Active: 3, Inactive: 14, Available: true, Rates: api.Rates{Flows: 10}},
					{Address: netip.MustParseAddrPort("10.10.0.9:80"), Weight: 1},
					{Address: netip.MustParseAddrPort("10.10.0.10:80"), MAC: "02:00:00:00:01:03", Available: true},
				}},
			{Name: "TCP 192.168.10.101:80", Protocol: "TCP", Address: netip.MustParseAddrPort("192.168.10.101:80"), Scheduler: "rr"},
		},
	}
	for i := range 20 {
		o.Services[1].Realservers = append(o.Services[1].Realservers,
			api.Realserver{Address: netip.MustParseAddrPort("10.10.1." + Count(i+1, "") + ":80"), MAC: "02:00:00:00:02:02", Weight: int32(min(i, 1)), Available: true})
	}
	return o
}

func TestPrint(t *testing.T) {
	o := example()
	var b strings.Builder
	if err := Print(&b, &o, "lb1", false); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/status.txt")
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := Print(&b, &o, "lb1", true); err != nil || strings.Count(b.String(), "  10.10.1.") != 20 {
		t.Errorf("with all: %v\n%s", err, b.String())
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := Print(full, &o, "lb1", true); err == nil {
		t.Error("a full disk is no error")
	}
}

// Weight 0 everywhere is what somebody wanted, and is said so.
func TestWhyNone(t *testing.T) {
	drained, silent, full := api.Realserver{MAC: "x", Available: true}, api.Realserver{Weight: 1}, api.Realserver{MAC: "x", Weight: 1}
	for _, c := range []struct {
		servers []api.Realserver
		want    string
	}{
		{nil, "It has no realserver."},
		{[]api.Realserver{drained}, "Its only realserver is drained (weight 0)."},
		{[]api.Realserver{drained, {}}, "All its 2 realservers are drained (weight 0)."},
		{[]api.Realserver{silent, full, drained, silent}, "Its realservers: 2 not answering, 1 full, 1 drained."},
	} {
		o := api.Overview{Services: []api.Service{{Name: "web", Realservers: c.servers}}}
		if got := Warnings(&o); len(got) != 1 || got[0] != (Warning{"Service web takes no new connections", c.want}) {
			t.Errorf("%+v: %q, want %q", c.servers, got, c.want)
		}
	}
}

// What was changed at run time is shown with what it was, and control characters of names are not.
func TestPrintDrift(t *testing.T) {
	o := api.Overview{Drift: api.Drift{Total: 10}}
	o.Version, o.Config, o.Changes = "v1", "/etc/x\x1b[2J", 12
	o.Services = []api.Service{{Name: "a\x1b[2Jb\x00", Address: netip.MustParseAddrPort("192.0.2.1:80")}}
	for i := range 10 {
		o.Drift.Differences = append(o.Drift.Differences, api.Difference{Kind: api.Changed, Service: "web", Key: "weight", Old: "1", New: strconv.Itoa(i)})
	}
	o.Started = time.Now()
	o.Now = o.Started.Add(time.Minute)
	o.Reload = api.Reload{Last: o.Now, Error: "wrong", Failures: 1}
	var b strings.Builder
	if err := Print(&b, &o, "lb1", false); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{"10 differences from the file, by 12 changes", "service web: weight 1 -> 7\n", "and 2 more", `"a\x1b[2Jb\x00"`, "The last reload was refused"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	for _, never := range []string{"\x1b", "\x00", "read again"} {
		if strings.Contains(got, never) {
			t.Errorf("there is %q in\n%q", never, got)
		}
	}
	for _, c := range []struct {
		changes uint64
		total   int
		want    string
	}{{0, 0, ""}, {1, 0, "1 change since the file was read, after which all is as in the file"}, {1, 1, "1 difference from the file, by 1 change since it was read"}} {
		if got := DriftTitle(&api.Overview{Status: api.Status{Changes: c.changes}, Drift: api.Drift{Total: c.total}}); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
