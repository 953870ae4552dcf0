package flow

// States of SCTP associations, numbered as in the kernel's include/net/ip_vs.h.
const (
	SCTPNone State = iota
	SCTPInit1
	SCTPInit
	SCTPCookieSent
	SCTPCookieReplied
	SCTPCookieWait
	SCTPCookie
	SCTPCookieEchoed
	SCTPEstablished
	SCTPShutdownSent
	SCTPShutdownReceived
	SCTPShutdownAckSent
	SCTPRejected
	SCTPClosed
	sctpStates
)

var sctpNames = [sctpStates]string{"NONE", "INIT1", "INIT", "C-SENT", "C-REPLIED", "C-WAIT", "COOKIE", "C-ECHOED",
	"ESTABLISHED", "S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED", "CLOSED"}

// Chunk types that move the state of an association (RFC 9260, 3.2).
const (
	ChunkInit             = 1
	ChunkInitAck          = 2
	ChunkAbort            = 6
	ChunkShutdown         = 7
	ChunkShutdownAck      = 8
	ChunkError            = 9
	ChunkCookieEcho       = 10
	ChunkCookieAck        = 11
	ChunkShutdownComplete = 14
)

// NextSCTP returns the state of an association after a packet whose first chunk (or the ABORT
// bundled behind a COOKIE ECHO or COOKIE ACK) has this type, for a director that sees only what
// clients send: the input-only table of net/netfilter/ipvs/ip_vs_proto_sctp.c. Types that it does
// not know count as data.
func NextSCTP(s State, chunk uint8) State {
	if s >= sctpStates {
		return SCTPClosed
	}
	switch chunk {
	case ChunkInit:
		switch s {
		case SCTPNone:
			return SCTPInit1
		case SCTPInit1, SCTPInit, SCTPCookieSent, SCTPCookieReplied, SCTPCookieWait, SCTPRejected, SCTPClosed:
			return SCTPInit
		}
	case ChunkInitAck:
		if s <= SCTPCookieWait {
			return SCTPCookieEchoed
		}
	case ChunkCookieEcho:
		if s <= SCTPCookieWait || s == SCTPCookieEchoed {
			return SCTPEstablished
		}
	case ChunkCookieAck:
		switch s {
		case SCTPNone, SCTPCookieSent, SCTPCookieReplied, SCTPCookie, SCTPCookieEchoed:
			return SCTPEstablished
		}
	case ChunkShutdown:
		if s == SCTPNone || s == SCTPEstablished {
			return SCTPShutdownReceived
		}
	case ChunkShutdownAck:
		switch s {
		case SCTPNone, SCTPEstablished, SCTPShutdownSent, SCTPShutdownAckSent:
			return SCTPClosed
		case SCTPInit1:
			return SCTPInit
		}
	case ChunkShutdownComplete:
		if s <= SCTPCookieReplied || s == SCTPShutdownReceived || s == SCTPShutdownAckSent {
			return SCTPClosed
		}
	case ChunkError:
		if s == SCTPNone {
			return SCTPClosed
		}
	case ChunkAbort:
		if s == SCTPCookieWait {
			return SCTPRejected
		}
		return SCTPClosed
	default:
		if s == SCTPNone || s == SCTPCookieWait {
			return SCTPEstablished
		}
	}
	return s
}
