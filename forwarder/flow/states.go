package flow

import (
	"time"

	"shunt/forwarder/frame"
)

// State of a flow. What a number means depends on the protocol; 0 is NONE for TCP and SCTP, and the
// only state of UDP.
type State uint8

// States of TCP flows, numbered as in the kernel's include/net/ip_vs.h.
const (
	TCPNone State = iota
	TCPEstablished
	TCPSynSent
	TCPSynRecv
	TCPFinWait
	TCPTimeWait
	TCPClose
	TCPCloseWait
	TCPLastAck
	TCPListen
	TCPSynAck
	tcpStates
)

var tcpNames = [tcpStates]string{"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE",
	"CLOSE_WAIT", "LAST_ACK", "LISTEN", "SYNACK"}

// What a TCP segment does to the state, in the order of precedence that the kernel gives them.
const (
	tcpSyn = iota
	tcpFin
	tcpAck
	tcpRst
	tcpEvents
)

const (
	no, es, ss, sr, fw = TCPNone, TCPEstablished, TCPSynSent, TCPSynRecv, TCPFinWait
	tw, cl, cw, la, li = TCPTimeWait, TCPClose, TCPCloseWait, TCPLastAck, TCPListen
	sa                 = TCPSynAck
)

// tcpNext is the state that follows, by event and present state, for a director that sees only what
// clients send: the input-only column of net/netfilter/ipvs/ip_vs_proto_tcp.c. The second table is
// the one of secure_tcp.
var tcpNext = [2][tcpEvents][tcpStates]State{{
	tcpSyn: {sr, es, es, sr, sr, sr, sr, sr, sr, sr, sr},
	tcpFin: {cl, fw, ss, tw, fw, tw, cl, cw, la, li, tw},
	tcpAck: {es, es, ss, es, fw, tw, cl, cw, cl, li, es},
	tcpRst: {cl, cl, cl, sr, cl, cl, cl, cl, la, li, cl},
}, {
	tcpSyn: {sa, es, es, sr, sa, sa, sa, sa, sa, sa, sa},
	tcpFin: {cl, fw, ss, tw, fw, tw, cl, cw, la, li, tw},
	tcpAck: {es, es, ss, es, fw, tw, cl, cw, cl, li, es},
	tcpRst: {cl, cl, cl, cl, cl, cl, cl, cl, la, li, cl},
}}

// NextTCP returns the state of a TCP flow after a segment with these flags. secure selects the
// table of secure_tcp. A segment without any of SYN, FIN, ACK and RST closes the flow.
func NextTCP(s State, flags uint8, secure bool) State {
	table := &tcpByFlags[0]
	if secure {
		table = &tcpByFlags[1]
	}
	return table[flags&31][s&15]
}

func nextTCP(s State, flags uint8, secure bool) State {
	var event int
	switch {
	case flags&frame.RST != 0:
		event = tcpRst
	case flags&frame.SYN != 0:
		event = tcpSyn
	case flags&frame.FIN != 0:
		event = tcpFin
	case flags&frame.ACK != 0:
		event = tcpAck
	default:
		return TCPClose
	}
	if s >= tcpStates {
		return TCPClose
	}
	if secure {
		return tcpNext[1][event][s]
	}
	return tcpNext[0][event][s]
}

// tcpByFlags is NextTCP for all that can come: by secure, the lower five flags and the state.
var tcpByFlags = func() (all [2][32][16]State) {
	for secure := range all {
		for flags := range all[secure] {
			for s := range all[secure][flags] {
				all[secure][flags][s] = nextTCP(State(s), uint8(flags), secure == 1)
			}
		}
	}
	return all
}()

// Timeouts are the times after which a flow ends that sees no packet, by state, in ticks.
type Timeouts struct {
	TCP  [tcpStates]uint32
	SCTP [sctpStates]uint32
	UDP  uint32
}

// DefaultTimeouts are the kernel's (tcp_timeouts, udp_timeouts, sctp_timeouts).
func DefaultTimeouts() *Timeouts {
	t := &Timeouts{UDP: Ticks(300 * time.Second)}
	for s, sec := range [tcpStates]int{TCPNone: 2, TCPEstablished: 900, TCPSynSent: 120, TCPSynRecv: 60, TCPFinWait: 120,
		TCPTimeWait: 120, TCPClose: 10, TCPCloseWait: 60, TCPLastAck: 30, TCPListen: 120, TCPSynAck: 120} {
		t.TCP[s] = Ticks(time.Duration(sec) * time.Second)
	}
	for s := range t.SCTP {
		t.SCTP[s] = Ticks(61 * time.Second)
	}
	t.SCTP[SCTPNone] = Ticks(2 * time.Second)
	t.SCTP[SCTPInit1] = Ticks(4 * time.Second)
	t.SCTP[SCTPRejected] = Ticks(4 * time.Second)
	t.SCTP[SCTPEstablished] = Ticks(900 * time.Second)
	return t
}

// Set changes the timeouts that ipvsadm --set can: of established TCP flows, of TCP flows in
// FIN_WAIT and of UDP. 0 leaves a value as it is.
func (t *Timeouts) Set(tcp, tcpFin, udp time.Duration) {
	if tcp != 0 {
		t.TCP[TCPEstablished] = Ticks(tcp)
	}
	if tcpFin != 0 {
		t.TCP[TCPFinWait] = Ticks(tcpFin)
	}
	if udp != 0 {
		t.UDP = Ticks(udp)
	}
}

// Of returns the timeout of a flow of kind k in state s, in ticks.
func (t *Timeouts) Of(k Kind, s State) uint32 {
	switch {
	case k == TCP && s < tcpStates:
		return t.TCP[s]
	case k == SCTP && s < sctpStates:
		return t.SCTP[s]
	}
	return t.UDP
}

// IsActive reports whether a flow of kind k in state s counts among the active connections of its
// destination.
func IsActive(k Kind, s State) bool {
	switch k {
	case TCP:
		return s == TCPEstablished || s == TCPSynSent || s == TCPSynRecv || s == TCPSynAck
	case SCTP:
		return s == SCTPEstablished
	}
	return false
}

// StateName names the state of the entry as ipvsadm -Lnc prints it.
func (e *Entry) StateName() string {
	switch {
	case e.kind.IsTemplate():
		if e.Flags&Assured != 0 {
			return "ASSURED"
		}
		return "NONE"
	case e.kind == TCP && e.State < tcpStates:
		return tcpNames[e.State]
	case e.kind == SCTP && e.State < sctpStates:
		return sctpNames[e.State]
	case e.kind == UDP:
		return "UDP"
	}
	return "ERR!"
}
