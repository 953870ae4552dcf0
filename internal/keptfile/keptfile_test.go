package keptfile

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// somethingKept is a file with a plan in which nothing is left out, and two transactions.
func somethingKept(t testing.TB) (text []byte, plan *forwarder.Plan, since [][]api.Change) {
	addr := netip.MustParseAddr
	plan = &forwarder.Plan{Settings: forwarder.DefaultSettings(), Services: []forwarder.ServicePlan{{
		Service: forwarder.Service{Name: "web", Mark: 7, V6: true, Scheduler: "mh", Options: scheduler.Options{Flags: 2, TableSize: 251, Seed: 1 << 63, Expiration: 5},
			Matches:     []forwarder.Match{{Addr: addr("fd00::1"), Proto: frame.TCP, First: 80, Last: 90}, {Addr: addr("fd00::1"), Proto: frame.SCTP, First: 0, Last: 65535}},
			Persistence: time.Minute, MaskBits: 64, SlowStart: time.Second, OnePacket: true},
		Destinations: []forwarder.Destination{{Addr: addr("fd00::2"), Weight: 3, Upper: 9, Lower: 5, Leg: 1, Drain: time.Hour}},
	}}}
	plan.Settings.UDPTimeout, plan.Settings.Gone = time.Minute, forwarder.GoneReset
	service := &api.VirtualService{Protocol: "TCP", Address: addr("192.0.2.1"), Port: 80, Scheduler: "rr"}
	since = [][]api.Change{
		{{Op: api.OpAddService, Service: service}, {Op: api.OpAddServer, Service: service, Server: &api.VirtualServer{Address: addr("10.0.0.1"), Weight: 1}}},
		{{Op: api.OpFlush}},
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, v := range []any{Head{Format, "boot", "config", 4}, plan, since[0], since[1]} {
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes(), plan, since
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// TestParse: what was kept is what was, and of a file that is cut anywhere the whole lines are.
func TestParse(t *testing.T) {
	text, wantPlan, wantSince := somethingKept(t)
	head, plan, since, whole, err := Parse(text)
	if err != nil || whole != len(text) || head.Changes != 4 {
		t.Fatalf("%+v, %d of %d bytes: %v", head, whole, len(text), err)
	}
	if d := cmp.Diff(wantPlan, plan, sameAddr); d != "" {
		t.Errorf("plan: -want +got\n%s", d)
	}
	if d := cmp.Diff(wantSince, since, sameAddr); d != "" {
		t.Errorf("changes: -want +got\n%s", d)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for n := range text {
		_, _, since, whole, err := Parse(text[:n])
		lastBegins := bytes.LastIndexByte(text[:n], '\n') + 1
		switch {
		case n < len(lines[0])+len(lines[1]):
			if err == nil || whole != 0 {
				t.Fatalf("%d bytes: %d are whole, %v", n, whole, err)
			}
		case whole != lastBegins || (err == nil) != (whole == n):
			t.Fatalf("%d bytes: %d are whole, not %d: %v", n, whole, lastBegins, err)
		case len(since) != bytes.Count(text[:n], []byte("\n"))-2:
			t.Fatalf("%d bytes: %d transactions", n, len(since))
		}
	}
	for _, c := range []struct{ old, new string }{{`"format":1`, `"format":2`}, {`"boot"`, `"root"`}, {`"Services"`, `"Virtual"`}} {
		if _, _, _, whole, err := Parse(bytes.Replace(text, []byte(c.old), []byte(c.new), 1)); err == nil || whole != 0 {
			t.Errorf("%s instead of %s: %d bytes are used, %v", c.new, c.old, whole, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, _, _ := somethingKept(f)
	f.Add(text)
	f.Add(bytes.Replace(text, []byte(`"Services"`), []byte(`"Other"`), 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _, since, whole, err := Parse(text)
		if whole > len(text) || whole > 0 && text[whole-1] != '\n' || err == nil && whole != len(text) || whole == 0 && len(since) > 0 && err == nil {
			t.Fatalf("%d of %d bytes, %d transactions: %v", whole, len(text), len(since), err)
		}
		// What is whole is read the same again.
		if whole > 0 {
			if _, _, again, n, err := Parse(text[:whole]); err != nil || n != whole || len(again) != len(since) {
				t.Fatalf("again: %d of %d bytes, %d transactions, not %d: %v", n, whole, len(again), len(since), err)
			}
		}
	})
}
