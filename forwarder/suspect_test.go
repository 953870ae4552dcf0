package forwarder_test

import (
	"slices"
	"testing"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// A SYN that comes again tells where a realserver may be gone, once; what else comes again does
// not.
func TestSuspects(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2)
	r.serve(service("TCP ["+vip6+"]:80", "rr"), 3)
	expect := func(when string, want ...forwarder.Hop) {
		t.Helper()
		if got := r.Suspects(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v", when, got, want)
		}
	}
	at := func(n int, v6 bool) forwarder.Hop { return forwarder.Hop{Leg: 0, Addr: server(n, v6)} }
	r.goesTo(talk4(40000, 80).tcp(frame.SYN), 1)
	r.goesTo(talk4(40001, 80).tcp(frame.SYN), 2)
	r.goesTo(talk6(40000, 80).tcp(frame.SYN), 3)
	expect("first SYNs")
	r.goesTo(talk4(40000, 80).tcp(frame.SYN), 1)
	r.goesTo(talk4(40000, 80).tcp(frame.SYN), 1)
	expect("a SYN that came again", at(1, false))
	expect("asked again")
	r.goesTo(talk4(40001, 80).tcp(frame.ACK), 2)
	r.goesTo(talk4(40001, 80).tcp(frame.ACK), 2)
	r.goesTo(talk4(40001, 80).tcp(frame.SYN), 2)
	expect("of an established connection")
	r.goesTo(talk6(40000, 80).tcp(frame.SYN), 3)
	expect("of IPv6", at(3, true))
}
