package forwarder_test

import (
	"os"
	"testing"
	"time"

	"shunt/forwarder"
)

// BenchmarkTakeover makes an engine that takes over a million connections, and has the
// configuration in force: the time for which a restart forwards nothing, but for what the rings and
// ARP take.
func BenchmarkTakeover(b *testing.B) {
	base := "/dev/shm" // a tmpfs, as /run should be
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "shunt-bench")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	keep := func(c *forwarder.Config) {
		c.Flows, c.Exact, c.State = benchFlows, false, &forwarder.State{Dir: openDir(dir)}
		c.Clock = time.Now
	}
	serve := func(r *rig) {
		r.serve(service("TCP "+vip4+":80", "wrr"), 1, 2, 3, 4, 5, 6, 7, 8)
	}
	r := &benchRig{rig: newRig(b, keep)}
	serve(r.rig)
	r.establish(b, benchFlows)
	flows := r.Stats().Flows
	for b.Loop() {
		b.StopTimer()
		r.must(r.Close())
		b.StartTimer()
		r.rig = newRig(b, keep)
		serve(r.rig)
		if got := r.Taken(); got.Flows != flows || got.Dropped != 0 {
			b.Fatalf("taken over: %+v, want %d flows", got, flows)
		}
	}
	r.must(r.Close())
}
