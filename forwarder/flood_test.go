package forwarder_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Each of these floods fills the table, or closes what others have. What the real clients do beside
// it has to go on.

// converse has a client open a connection, ask and acknowledge, and returns the realserver that it
// has. provenBy has to follow.
func (r *rig) converse(k talk) (home int) {
	out := r.give(k.tcp(frame.SYN), k.tcp(frame.ACK), k.tcp(frame.ACK|frame.PSH, 1))
	if len(out) != 3 {
		r.Fatalf("of a handshake and a request %d frames went on", len(out))
	}
	return serverOf(out[0])
}

// provenBy lets a moment pass, after which the first n clients that have conversed prove that they
// do.
func (r *rig) provenBy(n int) {
	r.after(200 * time.Millisecond)
	for i := range n {
		r.give(talk4(1024+uint16(i), 80).tcp(frame.ACK))
	}
}

// spoofed is one of many clients that nobody has asked.
func spoofed(n int, port uint16) talk {
	a := netip.AddrFrom4([4]byte{100, 64 + byte(n>>16), byte(n >> 8), byte(n)})
	return talk{netip.AddrPortFrom(a, 40000), netip.AddrPortFrom(addr(vip4), port)}
}

// floods are what attackers send for each tuple, at once.
var floods = map[string]func(n int) []frame.Frame{
	"SYN": func(n int) []frame.Frame { return []frame.Frame{spoofed(n, 80).tcp(frame.SYN)} },
	"SYN, ACK": func(n int) []frame.Frame {
		k := spoofed(n, 80)
		return []frame.Frame{k.tcp(frame.SYN), k.tcp(frame.ACK)}
	},
	"SYN, ACK, data": func(n int) []frame.Frame {
		k := spoofed(n, 80)
		return []frame.Frame{k.tcp(frame.SYN), k.tcp(frame.ACK), k.tcp(frame.ACK, 1), k.tcp(frame.ACK, 2), k.tcp(frame.ACK, 3)}
	},
	"SYN, ACK, FIN": func(n int) []frame.Frame {
		k := spoofed(n, 80)
		return []frame.Frame{k.tcp(frame.SYN), k.tcp(frame.ACK), k.tcp(frame.FIN | frame.ACK)}
	},
	"SYN, RST": func(n int) []frame.Frame {
		k := spoofed(n, 80)
		return []frame.Frame{k.tcp(frame.SYN), k.tcp(frame.RST)}
	},
	"one datagram":      func(n int) []frame.Frame { return []frame.Frame{spoofed(n, 53).udp(1)} },
	"two datagrams":     func(n int) []frame.Frame { k := spoofed(n, 53); return []frame.Frame{k.udp(1), k.udp(2)} },
	"INIT":              func(n int) []frame.Frame { return []frame.Frame{spoofed(n, 80).sctp(1)} },
	"INIT, COOKIE ECHO": func(n int) []frame.Frame { k := spoofed(n, 80); return []frame.Frame{k.sctp(1), k.sctp(10)} },
}

// target serves what floods go to.
func target(t testing.TB, sched string, change ...func(*forwarder.Service)) *rig {
	r := start(t)
	for _, s := range []string{"TCP " + vip4 + ":80", "UDP " + vip4 + ":53", "SCTP " + vip4 + ":80"} {
		r.serve(service(s, sched, change...), 1, 2, 3)
	}
	return r
}

// TestFloods: a full table and 1000 new flows a second into its 1024 places. Connections with
// traffic go on, half-closed downloads too, those that are silent for less than a minute are there
// when they are needed, every handshake of 200 ms is completed, and nobody is reset.
func TestFloods(t *testing.T) {
	for name, frames := range floods {
		for _, persistence := range []time.Duration{0, time.Minute} {
			t.Run(name+map[bool]string{true: ", persistent"}[persistence > 0], func(t *testing.T) {
				r := target(t, "rr", func(s *forwarder.Service) { s.Persistence = persistence })
				const clients = 150 // the first third has traffic, the second is silent, the last has closed its half
				homes := [clients]int{}
				for n := range homes {
					homes[n] = r.converse(talk4(1024+uint16(n), 80))
				}
				r.provenBy(clients)
				for n := range clients { // a page more, so that they have had more than a few packets
					for range 6 {
						r.give(talk4(1024+uint16(n), 80).tcp(frame.ACK))
					}
					if n >= clients/3*2 {
						r.give(talk4(1024+uint16(n), 80).tcp(frame.FIN | frame.ACK))
					}
				}
				next, port := 0, uint16(5000)
				step := func() { // a tenth of a second
					for range 100 {
						r.give(frames(next)...)
						next++
					}
					r.after(100 * time.Millisecond)
				}
				for range 20 {
					step()
				}
				for round := range 300 {
					k := talk4(port, 80)
					port++
					out := r.give(k.tcp(frame.SYN))
					if len(out) != 1 {
						t.Fatalf("round %d: no room for a handshake", round)
					}
					step()
					step()
					r.goesTo(k.tcp(frame.ACK), serverOf(out[0]))
					r.give(k.tcp(frame.RST | frame.ACK))
					if round%10 == 0 {
						for n, home := range homes {
							if n < clients/3 || n >= clients/3*2 {
								r.goesTo(talk4(1024+uint16(n), 80).tcp(frame.ACK), home)
							}
						}
					}
					if round%250 == 0 {
						for n := clients / 3; n < clients/3*2; n++ {
							r.goesTo(talk4(1024+uint16(n), 80).tcp(frame.ACK), homes[n])
						}
					}
				}
				if s := r.Stats(); s.Table.Evicted == 0 || s.Answered != 0 {
					t.Errorf("%d flows made room, %d answers were sent", s.Table.Evicted, s.Answered)
				}
				r.consistent()
			})
		}
	}
}

// consistent compares the realservers' counts with the table.
func (r *rig) consistent() {
	r.Helper()
	if active, inactive := r.counted(); active+inactive > r.Stats().Flows {
		r.Fatalf("realservers have %d active and %d inactive connections, the table %d", active, inactive, r.Stats().Flows)
	}
}

// TestForgottenClients: whose connection had to make room is not reset by the director. With a hash
// the connection goes on; else the director is silent, and once there has been room for a minute it
// answers as ever.
func TestForgottenClients(t *testing.T) {
	for _, sched := range []string{"rr", "sh", "mh"} {
		t.Run(sched, func(t *testing.T) {
			r := target(t, sched)
			victim := talk4(40000, 80)
			home := r.converse(victim)
			for n := range 3000 {
				r.give(spoofed(n, 80).tcp(frame.SYN))
			}
			flows := r.Stats().Flows
			for _, flags := range []uint8{frame.ACK, frame.ACK | frame.PSH, frame.FIN | frame.ACK} {
				before, foreseen := r.Stats().Answered, r.ExplainFrame(0, victim.tcp(flags)).Verdict
				r.expect(victim.tcp(flags), foreseen)
				out := r.give(victim.tcp(flags))
				switch {
				case sched != "rr" && (len(out) != 1 || serverOf(out[0]) != home):
					t.Errorf("flags %x: it does not go on to realserver %d", flags, home)
				case sched == "rr" && len(out) != 0:
					t.Errorf("flags %x: %d frames went out", flags, len(out))
				}
				if r.Stats().Answered != before {
					t.Errorf("flags %x: answered", flags)
				}
			}
			if r.Stats().Flows != flows {
				t.Error("a flow was made")
			}
			r.after(2 * time.Minute)
			before := r.Stats().Answered
			if r.give(victim.tcp(frame.ACK)); r.Stats().Answered != before+1 {
				t.Error("no RST although there is room")
			}
		})
	}
}

// TestFullByHash: where all that is in the table has traffic, a new connection finds no room; one
// that a hash can name a realserver for goes on without.
func TestFullByHash(t *testing.T) {
	for _, sched := range []string{"rr", "sh"} {
		r := target(t, sched)
		r.set(func(s *forwarder.Settings) { s.RefuseWhenFull = true })
		for n := range 1024 {
			r.give(spoofed(n, 80).tcp(frame.SYN))
		}
		k := talk4(40000, 80)
		if sched == "rr" {
			r.expect(k.tcp(frame.SYN), forwarder.TableFull)
			continue
		}
		if x := r.ExplainFrame(0, k.tcp(frame.SYN)); x.Verdict != forwarder.Forwarded {
			t.Errorf("explained as %v", x.Verdict)
		}
		home := serverOf(r.give(k.tcp(frame.SYN))[0])
		r.goesTo(k.tcp(frame.ACK), home)
		r.goesTo(k.tcp(frame.ACK|frame.PSH, 1), home)
		if n := r.Stats().Flows; n > 1024 {
			t.Errorf("%d flows", n)
		}
	}
}

// forged is a segment of a client with another sequence number.
func forged(k talk, seq uint32, flags uint8) frame.Frame {
	f := k.tcp(flags)
	at := 34 + 4
	if k.virtual.Addr().Is6() {
		at = 54 + 4
	}
	return changed(f, at, binary.BigEndian.AppendUint32(nil, seq)...)
}

// TestStrictRST: a RST, FIN or segment without flags closes a connection only where the client may
// be; without the option any does, as in the kernel.
func TestStrictRST(t *testing.T) {
	const at = 1000 // where talk.tcp has its clients
	for _, six := range []bool{false, true} {
		for _, strict := range []bool{true, false} {
			for _, x := range []struct {
				name  string
				flags uint8
				seq   uint32
				fits  bool
				state string
			}{
				{"RST", frame.RST, at, true, "CLOSE"}, {"RST", frame.RST, at + 100_000, true, "CLOSE"},
				{"blind RST", frame.RST, at + 0x40000000, false, "CLOSE"}, {"blind RST behind", frame.RST, 1<<32 + at - 300_000, false, "CLOSE"},
				{"blind RST, ACK", frame.RST | frame.ACK, at + 5_000_000, false, "CLOSE"},
				{"FIN", frame.FIN | frame.ACK, at, true, "FIN_WAIT"}, {"blind FIN", frame.FIN | frame.ACK, at + 0x80000000, false, "FIN_WAIT"},
				{"blind FIN without ACK", frame.FIN, at + 0x80000000, false, "FIN_WAIT"},
				{"no flags", 0, at, true, "CLOSE"}, {"blind, no flags", frame.PSH, at + 0x1234_5678, false, "CLOSE"},
				{"blind RST, SYN", frame.RST | frame.SYN, at + 0x1234_5678, false, "CLOSE"},
			} {
				r := start(t)
				r.set(func(s *forwarder.Settings) { s.StrictRST = strict })
				k, s := talk4(40000, 80), "TCP "+vip4+":80"
				if six {
					k, s = talk6(40000, 80), "TCP ["+vip6+"]:80"
				}
				r.serve(service(s, "rr"), 1, 2)
				home := r.converse(k)
				r.expect(forged(k, x.seq, x.flags), forwarder.Forwarded) // the realserver has its own opinion
				want := "ESTABLISHED"
				if x.fits || !strict {
					want = x.state
				}
				if got := r.conns()[0].State; got != want {
					t.Errorf("%s, strict %v, IPv6 %v: the connection is %s, want %s", x.name, strict, six, got, want)
				}
				if want == "ESTABLISHED" {
					r.after(5 * time.Minute)
					r.goesTo(k.tcp(frame.ACK), home)
					if r.Stats().Answered != 0 {
						t.Errorf("%s: the client was answered", x.name)
					}
					r.expect(forged(k, at, frame.RST), forwarder.Forwarded)
					if got := r.conns()[0].State; got != "CLOSE" {
						t.Errorf("%s: after the client's own RST it is %s", x.name, got)
					}
				}
			}
		}
	}
}

// TestStrictAbort: an association ends by its own verification tag, and without the option by any.
func TestStrictAbort(t *testing.T) {
	for _, strict := range []bool{true, false} {
		for _, chunk := range []uint8{6, 7, 8} {
			r := start(t)
			r.set(func(s *forwarder.Settings) { s.StrictRST = strict })
			r.serve(service("SCTP "+vip4+":80", "rr"), 1)
			k := talk4(40000, 80)
			tagged := func(chunk uint8, tag byte) frame.Frame { return changed(k.sctp(chunk), 38, tag, tag) }
			state := func() string { return r.conns()[0].State }
			r.give(k.sctp(1), tagged(10, 7), tagged(0, 7))
			r.expect(tagged(chunk, 8), forwarder.Forwarded)
			if got := state(); (got == "ESTABLISHED") != strict {
				t.Errorf("strict %v, chunk %d: after a blind one it is %s", strict, chunk, got)
			}
			if r.give(tagged(chunk, 7)); state() == "ESTABLISHED" {
				t.Errorf("strict %v, chunk %d: after its own it is established", strict, chunk)
			}
		}
	}
}

// TestStrictRSTFollows: the numbers that fit move on with the client, over the end of the number
// space, and neither a retransmission nor what others send moves them.
func TestStrictRSTFollows(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr"), 1)
	k := talk4(40000, 80)
	seq := uint32(0xfff00000)
	r.give(forged(k, seq, frame.SYN), forged(k, seq+1, frame.ACK))
	for range 100 {
		r.give(forged(k, seq, frame.ACK|frame.PSH), forged(k, seq-40_000_000, frame.ACK), forged(k, seq+40_000_000, frame.ACK), forged(k, seq+0x80000000, frame.ACK))
		r.give(forged(k, seq+40_000_000, frame.RST), forged(k, seq-40_000_000, frame.FIN))
		if got := r.conns()[0].State; got != "ESTABLISHED" {
			t.Fatalf("at %x it is %s", seq, got)
		}
		seq += 50_000
	}
	r.give(forged(k, seq, frame.FIN|frame.ACK))
	if got := r.conns()[0].State; got != "FIN_WAIT" {
		t.Fatalf("after the client's FIN it is %s", got)
	}
	// The client begins again from the same port, elsewhere.
	r.give(forged(k, 0x12345678, frame.SYN), forged(k, 0x12345679, frame.ACK), forged(k, 0x12345679, frame.RST))
	if got := r.conns()[0].State; got != "CLOSE" {
		t.Fatalf("after the RST of its next connection it is %s", got)
	}
}

// TestDropEntryAtOnce: while the table is nearly full, drop_entry ends what has proved nothing
// within seconds, and nothing else.
func TestDropEntryAtOnce(t *testing.T) {
	for _, flood := range []string{"SYN, ACK", "two datagrams", "SYN, RST", "INIT, COOKIE ECHO"} {
		for mode := 1; mode <= 3; mode++ {
			r := target(t, "rr")
			r.set(func(s *forwarder.Settings) { s.DropEntry = mode })
			const clients = 50
			homes := [clients]int{}
			for n := range homes {
				homes[n] = r.converse(talk4(1024+uint16(n), 80))
			}
			r.provenBy(clients)
			for n := range 900 {
				r.give(floods[flood](n)...)
			}
			r.seconds(5)
			if n := r.Stats().Flows; n > 896+clients {
				t.Errorf("%s, mode %d: %d flows are left", flood, mode, n)
			}
			for n, home := range homes {
				r.goesTo(talk4(1024+uint16(n), 80).tcp(frame.ACK), home)
			}
		}
	}
}
