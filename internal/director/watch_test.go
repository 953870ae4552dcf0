package director

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"shunt/forwarder"
)

// Losses are told as long as they grow, by how much they grew, and not again.
func TestLossesAreTold(t *testing.T) {
	var log bytes.Buffer
	w := &losses{log: slog.New(slog.NewTextHandler(&log, nil)), legs: []string{"front", "back"}, stateDir: "/run/shunt", dropped: make([]uint64, 2)}
	told := func(what string, look func(), want ...string) {
		t.Helper()
		log.Reset()
		look()
		if n := strings.Count(log.String(), "\n"); n != len(want) {
			t.Errorf("%s: %d lines: %s", what, n, &log)
		}
		for _, x := range want {
			if !strings.Contains(log.String(), x) {
				t.Errorf("%s: %s, want %s", what, &log, x)
			}
		}
	}
	drops := func(front, back uint64) func() { return func() { w.rings([]uint64{front, back}) } }
	told("nothing", drops(0, 0))
	told("both", drops(3, 4), "leg=front frames=3", "leg=back frames=4")
	told("one", drops(3, 9), "leg=back frames=5")
	told("none more", drops(3, 9))

	var s forwarder.Stats
	look := func() { w.engine(s) }
	told("nothing", look)
	s.Verdicts[forwarder.SendDown], s.Table.Refused, s.Table.Evicted, s.Capacity = 7, 2, 1, 1000
	told("some", look, "frames=7", "refused=2 evicted=1 capacity=1000")
	told("none more", look)
	s.Verdicts[forwarder.SendDown] = 8
	told("one more", look, "frames=1")
	s = forwarder.Stats{Cut: 1}
	s.Verdicts[forwarder.TableLost] = 5
	told("counters that began anew", look, "state_dir=/run/shunt times=1 frames=5")

	why := errors.New("no room")
	told("kept", func() { w.state(nil) })
	told("not kept", func() { w.state(why) }, "no room")
	told("still not kept", func() { w.state(why) })
	told("kept again", func() { w.state(nil) }, "will survive a restart")
}
