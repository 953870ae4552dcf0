package lab

import (
	"fmt"
	"net/netip"
	"slices"

	"shunt/api"
	"shunt/arpd"
	"shunt/forwarder/frame"
)

// proof counts what held and what did not.
type proof struct {
	passed, failed int
	tableWrong     []string
}

// claim prints one claim, and why it does not hold.
func (s *session) claim(what string, wrong []string) {
	s.seen.claims = append(s.seen.claims, claim{what, wrong})
	if len(wrong) == 0 {
		s.proof.passed++
		s.printf("  [ok]     %s\n", what)
		return
	}
	s.proof.failed++
	s.printf("  [FAILED] %s\n", what)
	for i, w := range wrong {
		if i == 5 {
			s.printf("           and %d more\n", len(wrong)-i)
			break
		}
		s.printf("           %s\n", w)
	}
}

// table compares the connection table with the pages: each connection must be there, with the
// realserver that answered.
func (p *proof) table(s *session, conns []api.Connection) {
	for _, page := range s.pages {
		rip := RIP(s.number(page.From))
		if page.V6 {
			rip = RIP6(s.number(page.From))
		}
		want := netip.AddrPortFrom(netip.MustParseAddr(rip), 80)
		i := slices.IndexFunc(conns, func(c api.Connection) bool {
			return c.Client.Port() == page.Port && c.Virtual.Addr() == page.vip()
		})
		switch {
		case i < 0:
			p.tableWrong = append(p.tableWrong, fmt.Sprintf("the connection from port %d is missing", page.Port))
		case conns[i].Realserver != want:
			p.tableWrong = append(p.tableWrong, fmt.Sprintf("port %d is with %s, but %s answered", page.Port, conns[i].Realserver, page.From))
		}
	}
}

// number of the realserver called name; 1 if there is none, which other checks show.
func (s *session) number(name string) int {
	for i, w := range s.net.Webs {
		if w.Name == name {
			return i + 1
		}
	}
	return 1
}

// check shows the trail of the last connection, and proves the claims from the captures.
func (s *session) check(c captured) {
	for i, page := range s.pages {
		if i == len(s.pages)-1 || s.pages[i+1].V6 != page.V6 {
			s.trail(c, page) // of the last connection of each family
		}
	}
	s.printf("Proof:\n")
	s.claim(fmt.Sprintf("%d pages of %d arrived", len(s.pages), s.Fetches*len(s.families())), nil)
	s.claim("the realservers were used in turn", s.turns())
	s.claim("the connection table has every connection, with the realserver that answered it", s.proof.tableWrong)
	s.frames(c)
	s.claim("no reply passed through the director", s.replies(c))
	s.claim("only the director answers requests for the VIP (ARP, neighbour discovery)", s.arp(c))
	s.claim("no frame escaped the captures", s.lost())
}

// trail follows the SYN of a connection, and the answer to it, from hop to hop.
func (s *session) trail(c captured, page Page) {
	there, back := s.net.ways(page.From)
	t := trail{page: page}
	defer func() { s.seen.trails = append(s.seen.trails, t) }()
	s.printf("The path of the connection from port %d, its SYN:\n", page.Port)
	for i, h := range there {
		if r := c.of(h, request(page.vip(), page.Port)); len(r) > 0 {
			s.printf("  %d  %s\n", i+1, line(h, &r[0]))
			t.steps = append(t.steps, step{i + 1, h, r[0]})
		}
	}
	s.printf("and the return path, which bypasses the director:\n")
	for i, h := range back {
		if r := c.of(h, reply(page.vip(), page.Port)); len(r) > 0 {
			s.printf("  %d  %s\n", len(there)+i+1, line(h, &r[0]))
			t.steps = append(t.steps, step{len(there) + i + 1, h, r[0]})
		}
	}
	s.printf("\n")
}

// turns checks that round robin alternated.
func (s *session) turns() (wrong []string) {
	for i := 1; i < len(s.pages); i++ {
		if s.pages[i].V6 == s.pages[i-1].V6 && s.pages[i].From == s.pages[i-1].From {
			wrong = append(wrong, fmt.Sprintf("fetches %d and %d both came from %s", i, i+1, s.pages[i].From))
		}
	}
	return wrong
}

// frames checks that every frame to the VIP passed the director with no change but its MACs.
func (s *session) frames(c captured) {
	total := compared{}
	for _, p := range s.pages {
		r := s.net.follow(c, p, MAC(s.number(p.From)))
		total.frames += r.frames
		total.ownMAC += r.ownMAC
		total.sameMAC += r.sameMAC
		total.wrong = append(total.wrong, r.wrong...)
	}
	if total.frames == 0 {
		total.wrong = append(total.wrong, "no frame was captured")
	}
	s.claim(fmt.Sprintf("%d frames to the VIP passed the director, identical except for their MACs", total.frames), total.wrong)
	if s.Topology == "one-arm" {
		var wrong []string
		if total.sameMAC > 0 {
			wrong = append(wrong, fmt.Sprintf("%d frames kept the client's source MAC and would mislead the switch", total.sameMAC))
		}
		s.claim("their source MAC is now the director's, because they left by the leg on which they arrived (source_mac: auto)", wrong)
		return
	}
	var wrong []string
	if total.ownMAC > 0 {
		wrong = append(wrong, fmt.Sprintf("%d frames have another source MAC", total.ownMAC))
	}
	s.claim("their source MAC is still the client's, because they left by the other leg (source_mac: auto)", wrong)
}

// replies lists frames from the VIP that were seen at the director.
func (s *session) replies(c captured) (wrong []string) {
	for _, name := range s.net.directorPorts() {
		for _, r := range c[name] {
			if p := packet(&r); p != nil && isVIP(p.Src.Netip()) && p.Proto == frame.TCP {
				wrong = append(wrong, fmt.Sprintf("at %s: %s", name, p.Tuple))
			}
		}
	}
	return wrong
}

func isVIP(a netip.Addr) bool {
	return a == netip.MustParseAddr(VIP) || a == netip.MustParseAddr(VIP6)
}

// arp lists messages that claim the VIP for somebody else's MAC, at any port.
func (s *session) arp(c captured) (wrong []string) {
	answered := map[bool]bool{} // by whether it was of IPv6
	for name, records := range c {
		for _, r := range records {
			m, err := arpd.Parse(r.Data)
			if err != nil || !isVIP(m.Sender) {
				continue
			}
			if m.SenderMAC.String() != DirectorMAC {
				wrong = append(wrong, fmt.Sprintf("at %s: %s claims it", name, m.SenderMAC))
			}
			if m.Reply && m.Target != m.Sender {
				answered[m.Sender.Is6()] = true
			}
		}
	}
	for _, v6 := range s.families() {
		if !answered[v6] {
			wrong = append(wrong, "no answer to the client's request was captured")
		}
	}
	return wrong
}

// lost lists the captures that missed frames.
func (s *session) lost() (wrong []string) {
	for name, p := range s.captures {
		if n := p.Dropped(); n > 0 {
			wrong = append(wrong, fmt.Sprintf("%s: %d frames", name, n))
		}
	}
	return wrong
}
