package forwarder

// A Verdict says what became of a frame. Each frame that a Source lends gets exactly one, and each
// has one counter.
type Verdict uint8

// The verdicts. Those up to Echoed are not losses.
const (
	Forwarded Verdict = iota // sent to a realserver
	Echoed                   // an echo request to a VIP, answered

	// The frame was not for a virtual service.
	NotForUs   // its destination MAC is not the leg's
	NotIP      // neither IPv4 nor IPv6
	NotOurs    // its destination address is not a VIP
	WrongVLAN  // its VLAN is not the leg's
	OtherProto // to a VIP, by a protocol that is not scheduled
	NoService  // to a VIP, but no service has its port

	// The frame could not be read.
	Runt         // shorter than an Ethernet header
	BadHeader    // lengths or version contradict each other
	BadChecksum  // wrong IPv4 header checksum
	BadTransport // the transport header does not fit the packet, or the checksum of a ping is wrong
	Truncated    // the ring or the capture held less than the frame
	Fragment     // of a datagram whose first fragment does not come, or whose fragments do not fit together

	// The frame is what nobody may send.
	LoopGuard // it comes from a realserver's MAC or our own
	BadSource // its source address is a VIP, a group, or none

	// IPVS's decisions.
	NoFlow        // a segment that opens no connection, of a flow that is not known
	NoDestination // the scheduler found no realserver that can take the flow
	DestGone      // the flow's realserver was removed
	Unresolved    // the realserver's MAC is not known, or that of the only ones that could take the flow is being asked for
	TableFull     // no room in the connection table
	TableLost     // it was being processed when the connection table's file was cut by another process
	DropPacket    // refused by drop_packet
	NoICMPFlow    // an ICMP message about an unknown flow
	ICMPIgnored   // an ICMP message of a type that is not forwarded
	FragNeeded    // longer than the MTU of the leg it would leave by, and not to be fragmented: the sender is told
	AboveMTU      // the same, but the sender is not told: it may be fragmented, and the director does not fragment

	// The leg did not take the frame.
	SendFull   // the device's queue was full
	SendTooBig // longer than the leg's MTU
	SendDown   // the leg is down
	SendFailed // another error

	// NumVerdicts is the number of verdicts.
	NumVerdicts
)

var verdictNames = [NumVerdicts]string{
	Forwarded: "forwarded", Echoed: "echo answered",
	NotForUs: "other MAC", NotIP: "not IP", NotOurs: "not a VIP", WrongVLAN: "other VLAN", OtherProto: "other protocol",
	NoService: "no service", Runt: "runt", BadHeader: "bad header", BadChecksum: "bad IP checksum",
	BadTransport: "bad transport header", Truncated: "truncated", Fragment: "fragment", LoopGuard: "loop guard",
	BadSource: "bad source", NoFlow: "no flow", NoDestination: "no destination", DestGone: "destination gone",
	Unresolved: "unresolved MAC", TableFull: "table full", TableLost: "table lost", DropPacket: "drop_packet", NoICMPFlow: "ICMP without flow",
	ICMPIgnored: "ICMP ignored", FragNeeded: "fragmentation needed", AboveMTU: "above MTU", SendFull: "send: queue full", SendTooBig: "send: too big", SendDown: "send: leg down",
	SendFailed: "send: failed",
}

var verdictMeanings = [NumVerdicts]string{
	Forwarded: "sent to a realserver", Echoed: "ping to a VIP, answered by the director",
	NotForUs: "destination MAC is not that of the leg", NotIP: "neither IPv4 nor IPv6",
	NotOurs: "destination address is not a VIP", WrongVLAN: "VLAN is not that of the leg",
	OtherProto: "to a VIP, with a protocol that is not scheduled", NoService: "to a VIP, but no service has this port",
	Runt: "shorter than an Ethernet header", BadHeader: "IP lengths or version are inconsistent",
	BadChecksum: "wrong IPv4 header checksum", BadTransport: "transport header does not fit into the packet, or wrong checksum of a ping",
	Truncated: "longer than the ring's slot or the capture's snap length", Fragment: "first fragment of the datagram did not arrive in time, or the fragments are inconsistent",
	LoopGuard: "source MAC is a realserver's or the director's own", BadSource: "source address is a VIP, a group address or unspecified",
	NoFlow:        "TCP or SCTP packet of an unknown flow that does not start a connection",
	NoDestination: "every realserver is unavailable, overloaded or has weight 0", DestGone: "flow of a realserver that was removed",
	Unresolved: "the realserver's MAC is not known", TableFull: "no room in the connection table",
	TableLost:  "in process when another process truncated the connection table's file",
	DropPacket: "refused by drop_packet", NoICMPFlow: "ICMP message about an unknown flow",
	ICMPIgnored: "ICMP message of a type that is not forwarded",
	FragNeeded:  "longer than the MTU of the outgoing leg; DF is set, or the packet is IPv6",
	AboveMTU:    "longer than the MTU of the outgoing leg; DF is not set", SendFull: "the leg's queue was full",
	SendTooBig: "longer than the leg's MTU", SendDown: "the leg was down", SendFailed: "the leg refused the frame",
}

// String names the verdict in a few words.
func (v Verdict) String() string {
	if v < NumVerdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// Meaning says in a sentence what the verdict means.
func (v Verdict) Meaning() string {
	if v < NumVerdicts {
		return verdictMeanings[v]
	}
	return "unknown"
}
