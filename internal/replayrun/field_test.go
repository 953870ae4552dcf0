package replayrun_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
	"shunt/internal/config"
	"shunt/internal/replayrun"
)

// TestField replays captures as people have them: with marks of offload, odd but readable.
func TestField(t *testing.T) {
	cfg := load(t, "testdata/field/vip.yaml")
	for _, c := range []struct {
		file      string
		packets   uint64
		offload   *replay.Offload
		first     string
		forwarded uint64 // with Strict
	}{
		{"offload-sender.pcap", 7, &replay.Offload{Checksums: 7, Lengths: 1, Large: 2}, "2023-11-14T22:13:20Z", 0},
		{"n16-spb-first-then-epb.pcapng", 3, nil, "2023-11-14T22:13:20Z", 3},
		{"n17-after-2106.pcapng", 2, nil, "2107-01-01T00:00:00Z", 2},
		{"p02-caplen-gt-origlen.pcap", 3, nil, "2023-11-14T22:13:20Z", 3},
	} {
		in := filepath.Join("testdata/field", c.file)
		r, err := run(t, replayrun.Options{Config: cfg, Input: in})
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		if r.Capture.Packets != c.packets || r.Sent.Frames != c.packets || r.Services[0].Packets != c.packets || r.Capture.First != c.first {
			t.Errorf("%s: %+v, %d sent, first %s", c.file, r.Verdicts, r.Sent.Frames, r.Capture.First)
		}
		if got := r.Capture.Offload; (got == nil) != (c.offload == nil) || got != nil && *got != *c.offload {
			t.Errorf("%s: offload %+v, want %+v", c.file, got, c.offload)
		}
		if s := text(t, r); strings.Contains(s, "--strict") != (c.offload != nil) {
			t.Errorf("%s:\n%s", c.file, s)
		}
		strict, err := run(t, replayrun.Options{Config: cfg, Input: in, Strict: true})
		if err != nil || strict.Sent.Frames != c.forwarded || strict.Capture.Offload != nil {
			t.Errorf("%s, strictly: %+v, %v", c.file, strict.Verdicts, err)
		}
	}
}

// What was completed is written as it would have been on the wire: nothing is left to complete.
func TestOffloadWritten(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.pcap")
	_, err := run(t, replayrun.Options{Config: load(t, "testdata/field/vip.yaml"), Input: "testdata/field/offload-sender.pcap", Output: out})
	if err != nil {
		t.Fatal(err)
	}
	src, err := replay.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	batch := make([]frame.Frame, 16)
	for err == nil {
		_, _, err = src.Next(batch)
	}
	if s := src.Stats(); s.Packets != 7 || s.Offload != (replay.Offload{Large: 2}) {
		t.Errorf("%+v: %v", s, err)
	}
}

// TestBusiest: when nothing is for a service, the report names what there is, clients' ports not
// among it, and what it prints as services can be read as such.
func TestBusiest(t *testing.T) {
	r, err := run(t, replayrun.Options{Config: load(t, "testdata/field/vip.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	want := replayrun.Crowded{Address: netip.MustParseAddr("203.0.113.10"), Protocol: "tcp", Port: 80, Packets: 47}
	if len(r.Busiest) != 5 || r.Busiest[0] != want {
		t.Errorf("%+v", r.Busiest)
	}
	for _, b := range r.Busiest {
		if b.Port >= 40000 {
			t.Errorf("%+v is a client", b)
		}
	}
	_, lines, _ := strings.Cut(text(t, r), "with your realservers:\n")
	cfg := parse(t, "legs: [{interface: a}]\nservices:\n"+strings.ReplaceAll(lines, "REALSERVER", "10.0.0.11"))
	if len(cfg.Services) != 5 {
		t.Errorf("%d services in\n%s", len(cfg.Services), lines)
	}
	again, err := run(t, replayrun.Options{Config: cfg})
	if err != nil || again.Busiest != nil || again.Services[0].Packets == 0 {
		t.Errorf("%+v: %v", again, err)
	}
}

// TestFitsScreen: tables of many services, realservers and addresses are cut, and say so, unless
// all is asked for; what is small is whole.
func TestFitsScreen(t *testing.T) {
	many := func(services, servers int) *config.Config {
		var b strings.Builder
		b.WriteString("legs: [{interface: a}]\nflows: 1024\nservices:\n")
		for i := range services {
			fmt.Fprintf(&b, "  - {address: 203.0.113.%d, port: 80, realservers: [", 10+i)
			for j := range servers {
				fmt.Fprintf(&b, "{address: 10.0.%d.%d},", i, 1+j)
			}
			b.WriteString("]}\n")
		}
		return parse(t, b.String())
	}
	for _, c := range []struct {
		services, servers int
		lines             int // at most
		says              []string
	}{
		{3, 3, 50, nil},
		{100, 20, 110, []string{"... and 92 more services, which --all lists", "  ... and 17 more", "... and 1968 more realservers"}},
		{1, 200, 100, []string{"  ... and 170 more"}},
		{60, 1, 90, []string{"... and 52 more services"}},
	} {
		cfg := many(c.services, c.servers)
		r, err := run(t, replayrun.Options{Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		s := text(t, r)
		if n := strings.Count(s, "\n"); n > c.lines {
			t.Errorf("%d services of %d: %d lines", c.services, c.servers, n)
		}
		if len(c.says) == 0 && strings.Contains(s, "more") {
			t.Errorf("cut:\n%s", s)
		}
		for _, want := range append(c.says, "TCP 203.0.113.10:80 wlc") { // the busiest is there
			if !strings.Contains(s, want) {
				t.Errorf("%d services of %d: no %q in\n%s", c.services, c.servers, want, s)
			}
		}
		whole, err := run(t, replayrun.Options{Config: cfg, All: true})
		if err != nil {
			t.Fatal(err)
		}
		if s := text(t, whole); strings.Contains(s, " more") || strings.Count(s, "\n") < c.services*(1+c.servers) {
			t.Errorf("--all does not list all:\n%s", s)
		}
	}
}

// A service of many addresses takes one line, no longer than a screen is wide.
func TestManyAddresses(t *testing.T) {
	var b strings.Builder
	b.WriteString("legs: [{interface: a}]\nflows: 1024\nservices:\n  - name: web\n    matches:\n")
	for i := range 12 {
		fmt.Fprintf(&b, "      - {address: 203.0.113.%d, port: 80}\n      - {address: 203.0.113.%d, port: 443}\n", 10+i, 10+i)
	}
	b.WriteString("    realservers: [{address: 10.0.0.11}]\n")
	r, err := run(t, replayrun.Options{Config: parse(t, b.String())})
	if err != nil {
		t.Fatal(err)
	}
	if s := text(t, r); !strings.Contains(s, "web: TCP 203.0.113.10:80, TCP 203.0.113.10:443 ... and 22 more wlc") {
		t.Error(s)
	}
	if n := strings.Count(r.Services[0].Virtual, ","); n != 23 {
		t.Errorf("the report for scripts has %d addresses", n+1)
	}
}
