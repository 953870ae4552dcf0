package forwarder_test

import (
	"strings"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

func tuple(k talk, proto frame.Proto) frame.Tuple {
	return frame.Tuple{Src: frame.AddrFrom(k.client.Addr()), Dst: frame.AddrFrom(k.virtual.Addr()),
		SrcPort: k.client.Port(), DstPort: k.virtual.Port(), Proto: proto}
}

// explained asks twice, to see that asking changes nothing, and gives the frame: it must go where the explanation says.
func (r *rig) explained(k talk, proto frame.Proto) forwarder.Explanation {
	r.Helper()
	x := r.Explain(0, tuple(k, proto))
	if again := r.Explain(0, tuple(k, proto)); again.Chosen != x.Chosen || again.Verdict != x.Verdict || again.Decider != x.Decider {
		r.Fatalf("asked twice, told %+v and %+v", x, again)
	}
	f := k.tcp(frame.SYN)
	if proto == frame.UDP {
		f = k.udp()
	}
	before := r.Stats().Verdicts
	out := r.give(f)
	if got := r.Stats().Verdicts[x.Verdict] - before[x.Verdict]; got != 1 {
		r.Fatalf("%v: told %v, but got another verdict", x.Tuple, x.Verdict)
	}
	if x.Verdict == forwarder.Forwarded && (len(out) != 1 || out[0].Dst() != x.MAC) {
		r.Fatalf("%v: told it goes to %s, but got %v", x.Tuple, x.MAC, out)
	}
	return x
}

func TestExplain(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2, 3)
	r.serve(service("TCP "+vip4+":443", "wlc", func(s *forwarder.Service) { s.Persistence = time.Minute }), 1, 2)
	for i := range 7 {
		x := r.explained(talk4(uint16(1000+i), 80), frame.TCP)
		if x.Decider != forwarder.ByScheduler || len(x.Candidates) != 3 || !x.Candidates[i%3].Chosen {
			t.Fatalf("flow %d: %+v", i, x)
		}
	}
	if x := r.explained(talk4(1000, 80), frame.TCP); x.Decider != forwarder.ByFlow || x.State != "SYN_RECV" || x.Expires <= 0 {
		t.Errorf("a known flow: %+v", x)
	}
	if x := r.explained(talk4(2000, 443), frame.TCP); x.Decider != forwarder.ByScheduler || x.Scheduler != "wlc" {
		t.Errorf("a client's first: %+v", x)
	}
	if x := r.explained(talk4(2001, 443), frame.TCP); x.Decider != forwarder.ByTemplate || x.State != "NONE" {
		t.Errorf("a client's second: %+v", x)
	}
	if x := r.explained(talk4(2001, 81), frame.TCP); x.Verdict != forwarder.NoService || x.Decider != forwarder.ByNobody || len(x.Candidates) != 0 {
		t.Errorf("a port without service: %+v", x)
	}
	if x := r.explained(from("192.0.2.7:5", "203.0.113.99:80"), frame.TCP); x.Verdict != forwarder.NotOurs {
		t.Errorf("no VIP: %+v", x)
	}
	for n := range 3 {
		r.must(r.SetNeighbour(0, server(n+1, false), frame.MAC{}))
	}
	x := r.explained(talk4(3000, 80), frame.TCP)
	if x.Verdict != forwarder.NoDestination || !strings.Contains(x.Candidates[0].Reason, "nobody answers") {
		t.Errorf("nobody there: %+v", x)
	}
	if x := r.explained(talk4(1000, 80), frame.TCP); x.Verdict != forwarder.Unresolved || x.Decider != forwarder.ByFlow {
		t.Errorf("a flow of one that cannot be reached: %+v", x)
	}
}
