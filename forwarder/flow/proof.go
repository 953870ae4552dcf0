package flow

// A director of direct routing sees only what clients send, and whoever forges clients' addresses
// can send all of that: nothing in one frame proves that somebody hears the answers. What can be
// asked for is effort. A flow is Proven when it has had more than three packets over more than 17
// to 34 ms, and of TCP and SCTP only once it is established. What is not Proven makes room first in
// a full table: see makeRoom.

const (
	provenPackets = 4 // with that many packets a flow can be proven
	provenTicks   = 2 // that must have begun since the flow was made: 17 to 34 ms
)

// Prove notes that one packet more of flow e, which is not Proven, has come and moved its state. It
// is called before the packet is counted.
func (t *Table) Prove(e *Entry) {
	if e.Packets < provenPackets-1 || uint8(t.now)-e.born < provenTicks || !e.proves() {
		return
	}
	e.Flags |= Proven
	if e.Control != 0 {
		t.Entry(ID(e.Control - 1)).Flags |= Proven
	}
}

// proves reports whether packets in the state of e count as proof: SYNs that come again and again
// do not.
func (e *Entry) proves() bool {
	switch e.kind {
	case TCP:
		switch e.State {
		case TCPEstablished, TCPFinWait, TCPCloseWait, TCPTimeWait, TCPLastAck:
			return true
		}
		return false
	case SCTP:
		return e.State >= SCTPEstablished && e.State <= SCTPShutdownAckSent
	}
	return true
}

// reach is how far ahead of what a client has sent a segment of its may begin, in units of 64 KiB.
// The shorter it is, the more forged segments it takes to lead the number astray.
const reach = 4

// Follow notes the upper half of the sequence number of a client's segment. Retransmissions, and
// numbers that can hardly be the client's, change nothing.
func (e *Entry) Follow(seq uint16) {
	if seq != e.seq {
		e.follow(seq)
	}
}

func (e *Entry) follow(seq uint16) {
	if d := seq - e.seq; e.Flags&Sequenced == 0 || d <= reach {
		e.Learn(seq)
	}
}

// Learn notes the upper half of the sequence number with which a connection begins, whatever was
// known of it.
func (e *Entry) Learn(seq uint16) {
	e.seq = seq
	e.Flags |= Sequenced
}

// Fits reports whether a segment whose sequence number has this upper half can end a client's
// connection: it begins at most 64 to 128 KiB before what the client sent last, and 128 to 192 KiB
// after, so after the longest segment that there is. Of a client of which no number is known any
// fits.
func (e *Entry) Fits(seq uint16) bool { return e.Flags&Sequenced == 0 || seq-e.seq+1 <= 3 }

// Is reports whether this is what was learnt, or nothing was.
func (e *Entry) Is(seq uint16) bool { return e.Flags&Sequenced == 0 || e.seq == seq }
