package statuspage

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"shunt/api"
)

// fake is a director that can be changed.
type fake struct {
	mu    sync.Mutex
	o     api.Overview
	asked int
}

func (f *fake) Overview() api.Overview {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.o
}

func (f *fake) set(o api.Overview) {
	f.mu.Lock()
	f.o = o
	f.mu.Unlock()
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// overview is how things are some seconds after the start, with n frames.
func overview(seconds int, n uint64) api.Overview {
	return api.Overview{
		Status: api.Status{Version: "v1", Started: start, Config: "/etc/shunt/shunt.yaml", Flows: 5, Capacity: 1000,
			Verdicts: map[string]uint64{"forwarded": n, "no service": n / 10, "other MAC": 3},
			Legs:     []api.Leg{{Name: "eth0", Interface: "eth0", Up: true, Slots: 4096}}},
		Now: start.Add(time.Duration(seconds) * time.Second), Workers: 1,
		Services: []api.Service{{Name: "web", Protocol: "TCP", Address: netip.MustParseAddrPort("192.168.10.100:80"), Scheduler: "rr",
			Counts: api.Counts{Flows: n / 100, Packets: n, Bytes: 100 * n},
			Realservers: []api.Realserver{
				{Address: netip.MustParseAddrPort("10.10.0.12:80"), MAC: "02:00:00:00:01:02", Weight: 1, Active: 3, Available: true, Counts: api.Counts{Packets: n}},
				{Address: netip.MustParseAddrPort("10.10.0.9:80"), Weight: 1},
			}}},
	}
}

// text is what of a page can be read.
func text(html string) string {
	html = regexp.MustCompile("<[^>]*>").ReplaceAllString(html, " ")
	return regexp.MustCompile(`\s+`).ReplaceAllString(html, " ")
}

func pageOf(t *testing.T, os ...api.Overview) string {
	t.Helper()
	f := &fake{o: os[0]}
	h := newHistory(f)
	for _, o := range os[1:] {
		f.set(o)
		h.note()
	}
	b, err := h.html()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPage(t *testing.T) {
	html := pageOf(t, overview(10, 1000), overview(12, 3000))
	got := text(html)
	for _, want := range []string{
		"1k /s", "800\u00a0kbit/s", "1 of 2 up", "10.10.0.9:80 no answer", "10.10.0.12:80 up 1 3", "forwarded 3\u202f000 1k/s",
		"no service 300 100/s to a VIP, but no service has this port", "other MAC 3 0/s", "up 12 s", "1 worker ·",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page does not say %q:\n%s", want, got)
		}
	}
	if strings.Index(got, "10.10.0.9:80") > strings.Index(got, "10.10.0.12:80") {
		t.Error("the realservers are not in the order of their addresses")
	}
	if !strings.Contains(html, `aria-label="packets a second in the last 2 s: now 1k, at most 1k"`) {
		t.Error("no chart says what it shows")
	}
	if strings.Contains(got, "Conflict") || strings.Contains(html, "class=\"warning\"") {
		t.Error("a warning without a reason")
	}
}

func TestWarnings(t *testing.T) {
	o := overview(10, 1000)
	o.Conflicts = []api.Conflict{
		{VIP: netip.MustParseAddr("192.168.10.100"), MAC: "02:00:00:00:01:01", Leg: "eth0", Realserver: netip.MustParseAddr("10.10.0.11"), Messages: 4, Last: o.Now.Add(-time.Minute)},
		{VIP: netip.MustParseAddr("192.168.10.101"), MAC: "02:00:00:00:01:09", Leg: "eth0", Messages: 4, Last: o.Now.Add(-time.Hour)},
	}
	o.Legs[0].Up, o.Legs[0].RingFull = false, 1234
	o.Flows = 950
	o.Services[0].Realservers = o.Services[0].Realservers[1:]
	o.Reload = api.Reload{Last: o.Now, Error: "shunt.yaml:3:1: no\nexcerpt"}
	got := text(pageOf(t, o))
	for _, want := range []string{
		"(6) shunt on", "Conflict over 192.168.10.100", "Realserver 10.10.0.11 (02:00:00:00:01:01) answers ARP", "Leg eth0 is down", "Service web takes no new connections",
		"table is nearly full", "dropped at the ring of eth0", "1 234 since the start", "The last reload was refused", "shunt.yaml:3:1: no ",
		"not known eth0 4 1 h 0 min ago", "not reloaded, refused 0 s ago",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page does not say %q:\n%s", want, got)
		}
	}
	for _, no := range []string{"excerpt", "Conflict over 192.168.10.101", "reloaded 0", "at run time"} {
		if strings.Contains(got, no) {
			t.Errorf("the page says %q", no)
		}
	}
}

// What was changed at run time is shown, and when the file was last taken, whatever became of it
// since.
func TestDrift(t *testing.T) {
	o := overview(10, 1000)
	o.Changes = 3
	o.Drift = api.Drift{Total: 2, Differences: []api.Difference{{Kind: api.Changed, Service: "web", Key: "scheduler", Old: "rr", New: "wlc"}}}
	o.Reload = api.Reload{Last: o.Now, Taken: o.Now.Add(-time.Minute), Error: "x"}
	got := text(pageOf(t, o))
	for _, want := range []string{"Changed at run time", "2 differences from the file, by 3 changes since it was read", "service web: scheduler rr -&gt; wlc", "and more",
		"reloaded 1 min 0 s ago, refused 0 s ago"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page does not say %q:\n%s", want, got)
		}
	}
}

// What comes from a configuration, or from a host on the network, is text.
func TestEscaped(t *testing.T) {
	const evil = `"><script>alert(1)</script><b x='`
	o := overview(10, 1000)
	o.Config, o.Version = evil, evil
	o.Reload.Error = evil
	o.Legs[0].Name, o.Legs[0].Interface, o.Legs[0].Up = evil, evil, false
	o.Services[0].Name, o.Services[0].Scheduler = evil, evil
	addr := netip.MustParseAddr("fe80::1").WithZone(evil) // which no director answers with
	r := &o.Services[0].Realservers[0]
	r.MAC, r.Address, r.Leg = evil, netip.AddrPortFrom(addr, 80), evil
	o.Conflicts = []api.Conflict{{VIP: addr, MAC: evil, Leg: evil, Realserver: addr, Last: o.Now}}
	html := pageOf(t, o)
	if strings.Contains(html, "<script>") || strings.Contains(html, "<b x") {
		t.Error("text became part of the page")
	}
	if n := strings.Count(html, "&lt;script&gt;"); n < 10 {
		t.Errorf("the text is there %d times only", n)
	}
	if strings.Contains(html, " style=") || strings.Contains(html, " onload") || strings.Contains(html, "http:") && !strings.Contains(html, "http-equiv") {
		t.Error("the page has what its policy forbids")
	}
}

func TestServer(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := &fake{o: overview(10, 1000)}
	s, err := Listen("127.0.0.1:0", "", f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if f.asked != 0 {
		t.Error("the director was asked before it is served")
	}
	served := time.Now()
	s.Serve()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path, host string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+s.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), resp.Header
	}
	for path, want := range map[string]string{
		"/": "<h1>shunt", "/status.json": `"flows": 5,`, "/metrics": `shunt_service_packets_total{service="web"} 1000`,
		"/style.css": "prefers-color-scheme", "/update.js": "DOMParser", "/icon.svg": "<svg",
	} {
		code, body, head := get(path, "")
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %q:\n%.300s", path, code, want, body)
		}
		if head.Get("Content-Security-Policy") != policy || head.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, head)
		}
	}
	for path, want := range map[string]int{"/page.html": 404, "/assets/style.css": 404, "/v1/changes": 404} {
		if code, _, _ := get(path, ""); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	for host, want := range map[string]int{
		"localhost": 200, "localhost:9405": 200, "127.0.0.1:9405": 200, "[::1]:9405": 200, "evil.example": 421, "evil.example:9405": 421, "127.0.0.1.evil.example": 421,
	} {
		if code, _, _ := get("/", host); code != want {
			t.Errorf("asked as %s: %d, want %d", host, code, want)
		}
	}
	if resp, err := client.Post("http://"+s.Addr().String()+"/", "", nil); err != nil || resp.StatusCode != 405 {
		t.Errorf("POST: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if most := 2 + int(time.Since(served)/every); f.asked > most { // at the start, for one /metrics, and by the ticker
		t.Errorf("the director was asked %d times, not %d at most", f.asked, most)
	}
	if _, err := Listen(s.Addr().String(), "", f, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "http.listen") {
		t.Errorf("listening twice: %v", err)
	}
}

// One that was never served gives its address back.
func TestNeverServed(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, err := Listen("127.0.0.1:0", "", &fake{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again, err := Listen(s.Addr().String(), "", &fake{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// On an address that others reach, any name will do.
func TestOtherNames(t *testing.T) {
	for local, want := range map[bool]int{true: 421, false: 204} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "http://director.example/", nil)
		guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }), local).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("loopback %v: %d, want %d", local, w.Code, want)
		}
	}
}

// The charts forget what is older than they show, and who is gone.
func TestHistory(t *testing.T) {
	f := &fake{o: overview(0, 0)}
	h := newHistory(f)
	for i := range 3 * points {
		f.set(overview(2*i+2, uint64(i)*20))
		h.note()
	}
	s := h.series[key("web", netip.MustParseAddrPort("10.10.0.12:80"))]
	if len(s.packets) != points || s.packets[points-1] != 10 || len(h.latency) != latencies {
		t.Errorf("%d points, the last %v, %d latencies", len(s.packets), s.packets[points-1], len(h.latency))
	}
	f.set(overview(1000, 0)) // the counters were set back
	h.note()
	if last := h.series[key("web", none)].packets[points-1]; last != 0 {
		t.Errorf("a counter that was set back is a rate of %v", last)
	}
	o := overview(1002, 0)
	o.Services = nil
	f.set(o)
	h.note()
	if len(h.series) != 1 {
		t.Errorf("%d series are left", len(h.series))
	}
}
