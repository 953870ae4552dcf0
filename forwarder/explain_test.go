package forwarder_test

import (
	"fmt"
	"net/netip"
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

// explained asks twice, to see that asking changes nothing, and gives the frame: it must go where
// the explanation says.
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
	if x.Verdict != forwarder.NoDestination || !strings.Contains(x.Candidates[0].Reason, "no host answers") {
		t.Errorf("nobody there: %+v", x)
	}
	if x := r.explained(talk4(1000, 80), frame.TCP); x.Verdict != forwarder.Unresolved || x.Decider != forwarder.ByFlow {
		t.Errorf("a flow of one that cannot be reached: %+v", x)
	}
}

// foretold asks about a frame and gives it: the explanation and what becomes of the frame must
// agree, in verdict and realserver.
func (r *rig) foretold(f frame.Frame) {
	r.Helper()
	before := r.Stats().Flows
	x := r.ExplainFrame(0, clone(f))
	if again := r.ExplainFrame(0, clone(f)); again.Verdict != x.Verdict || again.Chosen != x.Chosen || r.Stats().Flows != before {
		r.Fatalf("asked twice, told %+v and %+v", x, again)
	}
	was := r.Stats().Verdicts
	out := r.give(f)
	is := r.Stats().Verdicts
	if is[x.Verdict]-was[x.Verdict] == 0 && !(is == was && x.Verdict == forwarder.Fragment) { // a held fragment has no verdict yet
		r.Fatalf("told %v (%v), but got another verdict: %x", x.Verdict, x.Tuple, f.Data())
	}
	if x.Verdict == forwarder.Forwarded && (len(out) == 0 || out[0].Dst() != x.MAC) {
		r.Fatalf("told it goes to %s, but got %v", x.MAC, out)
	}
}

// TestExplainVerdicts: an explanation says of each frame of the verdict table what Process then
// does.
func TestExplainVerdicts(t *testing.T) {
	for _, c := range verdictTable() {
		t.Run(fmt.Sprintf("%v/%s", c.want, c.what), func(t *testing.T) {
			r := start(t)
			someServices(r)
			if c.before != nil {
				c.before(r)
			}
			if x := r.ExplainFrame(0, clone(c.frame)); x.Verdict != c.want {
				t.Fatalf("told %v, want %v", x.Verdict, c.want)
			}
			r.foretold(c.frame)
		})
	}
}

// TestExplainEveryFrame: the same for frames that are spoilt at every byte in turn, at directors
// that differ in what is special.
func TestExplainEveryFrame(t *testing.T) {
	persistent := func(s *forwarder.Service) { s.Persistence = time.Minute }
	for name, prepare := range map[string]func(*rig){
		"plain":      someServices,
		"persistent": func(r *rig) { r.serve(service("TCP "+vip4+":80", "wlc", persistent), 1, 2) },
		"sloppy": func(r *rig) {
			someServices(r)
			r.set(func(s *forwarder.Settings) { s.SloppyTCP, s.SloppySCTP, s.ScheduleICMP = true, true, true })
		},
		"dropping": func(r *rig) {
			someServices(r)
			r.set(func(s *forwarder.Settings) { s.DropPacket, s.AmDroprate = 3, 3 })
			r.after(time.Second)
		},
		"full": func(r *rig) {
			someServices(r)
			fillTable(r)
			r.set(func(s *forwarder.Settings) { s.RefuseWhenFull = true })
		},
		"gone, rescheduled": func(r *rig) {
			someServices(r)
			r.give(talk4(40000, 80).tcp(frame.SYN), talk4(40001, 80).tcp(frame.SYN))
			r.set(func(s *forwarder.Settings) { s.Gone = forwarder.GoneReschedule })
			removeServer1(r)
		},
		"gone, reset": func(r *rig) {
			someServices(r)
			r.give(talk4(40000, 80).tcp(frame.SYN), talk4(40001, 80).tcp(frame.SYN))
			r.set(func(s *forwarder.Settings) { s.Gone = forwarder.GoneReset })
			removeServer1(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			prepare(r)
			udp := talk4(40000, 53).udp(make([]byte, 24)...)
			for _, f := range []frame.Frame{talk4(40000, 80).tcp(frame.SYN), talk4(40001, 80).tcp(frame.ACK), talk6(40000, 53).udp(1, 2),
				talk4(40000, 80).icmpError(frame.TCP), talk6(40000, 80).icmpError(frame.UDP), talk4(1, 9).sctp(1),
				talk4(0, 0).icmp(8, 0, 0, 1, 0, 1), changed(udp, 20, 0x20, 0), changed(udp, 20, 0, 3)} {
				for at := range f.Buf {
					for _, x := range []byte{0, 1, 0x7f, f.Buf[at] ^ 1} {
						r.foretold(changed(f, at, x))
					}
					r.foretold(cutTo(f, at))
					r.foretold(shortTo(f, at))
					r.after(time.Millisecond) // answers are bounded in rate
				}
			}
		})
	}
}

// TestExplainRealserver: a packet from the address of a realserver has that one's MAC, so it is
// what the loop guard drops.
func TestExplainRealserver(t *testing.T) {
	for _, vip := range []string{vip4, "[" + vip6 + "]"} {
		r := start(t)
		r.serve(service("TCP "+vip+":80", "rr"), 1, 2)
		src := netip.AddrPortFrom(server(1, vip != vip4), 40000)
		x := r.Explain(0, tuple(talk{client: src, virtual: netip.MustParseAddrPort(vip + ":80")}, frame.TCP))
		if x.Verdict != forwarder.LoopGuard || x.Decider != forwarder.ByNobody || x.Service.String() == "" {
			t.Errorf("from %s: %+v", src, x)
		}
	}
}
