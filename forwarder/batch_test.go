package forwarder_test

import (
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// TestEndedWithinBatch: where a flow is, is looked up for a whole batch ahead. When the first of
// its frames ends it, those behind must not find what is left of it, or it would be counted out
// twice.
func TestEndedWithinBatch(t *testing.T) {
	two := func(r *rig) {
		f := talk4(40000, 80).tcp(frame.ACK)
		r.give(f, f, f)
		if active, inactive := r.counted(); active != 0 || inactive != 0 {
			r.Fatalf("%d active, %d inactive connections are left of none", active, inactive)
		}
	}
	begin := func(t *testing.T) *rig {
		r := start(t, func(c *forwarder.Config) { c.Exact = false })
		r.serve(service("TCP "+vip4+":80", "rr"), 1)
		r.give(talk4(40000, 80).tcp(frame.SYN))
		return r
	}
	t.Run("by its deadline", func(t *testing.T) {
		r := begin(t)
		r.now += int64(61 * time.Second)
		two(r)
	})
	t.Run("by a reset", func(t *testing.T) {
		r := begin(t)
		r.set(func(s *forwarder.Settings) { s.Gone = forwarder.GoneReset })
		s := service("TCP "+vip4+":80", "rr")
		r.update(func(tx *forwarder.Tx) error { return tx.DeleteDestination(s.Key(), dest(s, 1)) })
		f := talk4(40000, 80).tcp(frame.ACK)
		r.give(f, f, f)
		r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(s.Key(), dest(s, 1)) })
		two(r)
	})
}
