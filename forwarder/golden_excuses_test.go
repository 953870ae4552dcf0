package forwarder_test

import (
	"fmt"
	"strings"
	"testing"
)

// excuse names events about which the engine need not agree with the kernel, and says why. It
// applies to an event only if the event does not agree.
type excuse struct {
	n        int    // how many events need it, neither more nor fewer
	scenario string // its first two letters; "*" is any
	op       string // "" is any
	section  string // a part of the section's title
	text     string // a part of the event's label, note, command or key
	reason   string
}

const (
	noVIP      = "once no service has it the VIP is nobody's here; the kernel's stack still answers for it"
	local      = "an answer of the kernel's own stack for what is no flow; the engine answers echo, UDP and TCP only"
	unresolved = "a realserver whose MAC is not known gets no flows here; the kernel schedules it, and answers 3/1 after 3 s"
	ttl        = "the engine does not decrement the TTL (ARCHITECTURE.md, 2)"
	mtu        = "a frame is sent as it came: what may be fragmented and is too big is not forwarded"
	wheel      = "the kernel's timers of 10 s fire up to 0.26 s late, and the probe falls into that gap"
	option     = "shunt has nothing like this option of ipvsadm"
	print      = "what ipvsadm prints, not what it does"
	lab        = "a command of the laboratory, not of the director"
	unrecorded = "the packets before it are not in the trace"
	forwarding = "there is direct routing only"
	arp        = "ARP is not the engine's"
)

var excuseTable = []excuse{
	{21, "*", "note", "", "", "a remark"},
	{4, "*", "arp_request", "", "", arp},
	{3, "*", "frames", "", "", "frames of the realservers' ARP, and of HTTP, whose flows event http compares"},
	{4, "*", "cmd", "", "ip route", lab},
	{2, "*", "cmd", "", "ip link", lab},
	{2, "*", "cmd", "", "ip addr", lab},
	{7, "*", "cmd", "", "ethtool", lab},
	{2, "*", "cmd", "", "ping", lab},
	{6, "*", "cmd", "", "ipvsadm -L --timeout", print},

	{6, "02", "", "dead ARP dest", "", unresolved},

	{2, "05", "cmd", "twos: Debian 6.1", "", "the kernel had no twos at first; shunt always has"},
	{1, "05", "cmd", "twos [", "ipvsadm -Ln", "twos chooses at random; sequence compares the shares"},

	{8, "06", "pkt", "service deletion with flows (-D)", "after -D", noVIP},
	{1, "06", "pkt", "ipvsadm -C with flows", "ACK after -C", noVIP},

	{2, "07", "pkt", "port 0 service without persistence", "", noVIP},

	{8, "08", "pkt", "re-enable point", "", wheel},
	{3, "08", "reenable", "re-enable point", "", wheel},

	{1, "09", "pkt", "SCTP INIT", "DATA on unknown association", local},

	{3, "10", "", "VIP not configured on the director", "", "shunt's VIPs are never on the director's kernel"},
	{3, "10", "", "realserver unreachable", "", unresolved},
	{2, "10", "", "realserver with no route", "", unresolved},
	{1, "10", "snap", "realserver behind a gateway", "", unresolved},
	{5, "10", "", "the director itself", "", "the director is no realserver: there is no local node"},
	{1, "10", "cmd", "masq and tunnel", "ipvsadm -S", forwarding},

	{1, "11", "snap", "UDP datagram of 3000 B", "", "fragments go on at once: so do those of a datagram of which one is missing, and its flow is made"},
	{1, "11", "pkt", "UDP datagram of 3000 B", "DF last", mtu},
	{2, "11", "", "MTU to the realserver", "", mtu},
	{1, "11", "pkt", "ICMP echo", "to the DIP", "the DIP is the host's"},
	{1, "11", "pkt", "ICMP echo", "timestamp request", local},

	{3, "12", "pkt_hex", "", "ttl", ttl},
	{1, "13", "pkt", "", "hop limit 1", ttl},

	{5, "14", "cmd", "help and version", "", print},
	{46, "14", "cmd", "listing forms", "ipvsadm -", print},
	{1, "14", "cmd", "errors on services", "-s twos", "the kernel had no twos"},
	{2, "14", "cmd", "errors on services", "0.0.0.0:80", "a VIP is a unicast address"},
	{3, "14", "cmd", "errors on services", "--pe", option},
	{2, "14", "cmd", "errors on services", "ipvsadm -Ln", "services of 0.0.0.0 and of --pe, and netmasks that are no prefix or empty"},
	{2, "14", "cmd", "errors on services", "ipvsadm -S", "services of --pe, and netmasks that are no prefix or empty; names instead of numbers"},
	{1, "14", "cmd", "errors on destinations", "-w 65536", "weights end at 65535, as ipvsadm's manual says"},
	{1, "14", "cmd", "errors on destinations", "-w 2147483647", "weights end at 65535, as ipvsadm's manual says"},
	{1, "14", "cmd", "errors on destinations", "-r 127.0.0.1:80", "the director is no realserver: there is no local node"},
	{1, "14", "cmd", "errors on destinations", "-r 192.0.2.100:80 -g", "a realserver is reached by an address that is no VIP"},
	{3, "14", "cmd", "errors on destinations", "--tun-type", option},
	{5, "14", "cmd", "errors on destinations", "ipvsadm -Ln", "destinations of --tun-type and a weight above 65535"},
	{1, "14", "cmd", "errors on destinations", "ipvsadm -S", forwarding},
	{2, "14", "cmd", "save / restore", "ipvsadm-", "scripts around ipvsadm -S and -R"},
	{1, "14", "snap", "statistics", "", unrecorded},
	{2, "14", "cmd", "unprivileged", "", lab},

	{1, "15", "pkt", "-e change of forwarding method", "IPIP", forwarding},
	{1, "15", "cmd", "SYN flood of 200 flows", "", unrecorded},
	{2, "15", "pkt", "TCP header truncated", "to the VIP", local},
	{1, "15", "", "TCP header truncated", "source = DIP", "the DIP is the host's: the engine does not know it"},
	{1, "15", "snap", "TCP header truncated", "", "the flow from the DIP"},
	{1, "15", "sysctl", "", "conntrack", "there is no conntrack"},
	{2, "15", "", "large counters", "", unrecorded},
}

// excuses counts how often each excuse was needed.
type excuses struct {
	used     []int
	ran      map[string]bool // scenarios
	counting bool            // not for traces from elsewhere
}

func newExcuses() *excuses {
	return &excuses{used: make([]int, len(excuseTable)), ran: map[string]bool{}}
}

// find reports whether an event is excused.
func (x *excuses) find(scenario, section string, e *event) bool {
	for i := range excuseTable {
		c := &excuseTable[i]
		if (c.scenario == "*" || c.scenario == scenario) && (c.op == "" || c.op == e.Op) &&
			strings.Contains(section, c.section) && strings.Contains(e.text(), c.text) {
			if x.counting {
				x.used[i]++
			}
			return true
		}
	}
	return false
}

// report lists the excuses that were needed, and fails if it was not as often as the table says.
func (x *excuses) report(t *testing.T) (lines []string) {
	const scenarios = 17 // in testdata
	for i, c := range excuseTable {
		what := fmt.Sprintf("%s %s %q %q: %s", c.scenario, c.op, c.section, c.text, c.reason)
		if ran := x.ran[c.scenario] || c.scenario == "*" && len(x.ran) == scenarios; ran && x.used[i] != c.n {
			t.Errorf("an excuse was needed %d times, not %d: %s", x.used[i], c.n, what)
		}
		if x.used[i] > 0 {
			lines = append(lines, fmt.Sprintf("%3d x %s", x.used[i], what))
		}
	}
	return lines
}
