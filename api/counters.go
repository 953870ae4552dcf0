package api

// Counters start at 0 with the process, except those of the table, which go on over a restart.

// AnswerCounters are packets that the director makes itself, but for answers to pings, which are a
// verdict.
type AnswerCounters struct {
	Sent    uint64 `json:"sent"`    // RST and unreachables
	Limited uint64 `json:"limited"` // not sent, because there were too many
}

// TableCounters are events of the connection tables of all workers, and their size.
type TableCounters struct {
	Created uint64 `json:"created"` // connections and templates
	Expired uint64 `json:"expired"` // ended by their timeout
	Evicted uint64 `json:"evicted"` // ended early to make room
	Refused uint64 `json:"refused"` // not created for lack of room
	Cut     uint64 `json:"cut"`     // times that a worker started anew because another process cut the file
	Bytes   uint64 `json:"bytes"`   // memory of the tables; no counter
}

// RingCounters are those of one worker's rings on all legs.
type RingCounters struct {
	Batches uint64 `json:"batches"` // of frames
	Bytes   uint64 `json:"bytes"`   // memory of the rings and the buffers for large frames; no counter
}

// Leg is one interface of the director, with its rings and what it counts, of all workers.
type Leg struct {
	Name      string `json:"name"`
	Interface string `json:"interface"`
	MAC       string `json:"mac"`
	Up        bool   `json:"up"`
	Public    bool   `json:"public"` // the VIPs are answered for here
	Slots     int    `json:"slots"`  // of the rings
	InUse     int    `json:"in_use"` // slots that wait to be read, or are being forwarded

	Received  uint64 `json:"received"`  // frames taken from the rings
	Sent      uint64 `json:"sent"`      // frames, answers among them
	RingFull  uint64 `json:"ring_full"` // frames that the kernel dropped because the ring was full
	NotSent   uint64 `json:"not_sent"`  // frames and answers that the interface did not take
	Oversize  uint64 `json:"oversize"`  // frames larger than a slot, fetched whole
	Truncated uint64 `json:"truncated"` // frames larger than a slot whose rest was lost
	Damaged   uint64 `json:"damaged"`   // slots that contradicted themselves

	ARP ARPCounters `json:"arp"`
}

// ARPCounters are those of ARP and neighbour discovery on one leg.
type ARPCounters struct {
	Received  uint64 `json:"received"`  // messages
	Malformed uint64 `json:"malformed"` // of these, not understood
	Answered  uint64 `json:"answered"`  // questions for VIPs
	Limited   uint64 `json:"limited"`   // questions for VIPs not answered, because there were too many
	Announced uint64 `json:"announced"` // announcements of VIPs
	Probed    uint64 `json:"probed"`    // questions for VIPs, to find other hosts that answer
	Asked     uint64 `json:"asked"`     // questions for realservers
	Learnt    uint64 `json:"learnt"`    // messages of realservers that were of use
	Conflicts uint64 `json:"conflicts"` // messages of another host that claims a VIP
	Changed   uint64 `json:"changes"`   // changes of a realserver's state or MAC
	Failures  uint64 `json:"failures"`  // of these, realservers that stopped answering
	Disputes  uint64 `json:"disputes"`  // answers of another host for a realserver
	Excess    uint64 `json:"excess"`    // messages not looked at, because one MAC sent too many
	Errors    uint64 `json:"errors"`    // frames that could not be read or sent, groups that could not be joined
	Dropped   uint64 `json:"dropped"`   // messages dropped unread in a flood
}
