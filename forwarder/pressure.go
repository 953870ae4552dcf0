package forwarder

import (
	"time"

	"shunt/forwarder/flow"
)

// pressure is the kernel's defence against floods, net.ipv4.vs.drop_entry, drop_packet and
// secure_tcp (update_defense_level, ip_vs_ctl.c; ip_vs_random_dropentry, ip_vs_conn.c). Where the
// kernel looks at free memory, which says nothing about a table of fixed size, modes 1 and 2 look
// at the table: they act while less than an eighth of it is free.
type pressure struct {
	next    int64 // when the next look is due, in nanoseconds
	rate    int   // of every rate new flows one is dropped; 0 is none
	counter int
	secure  bool
	entry   bool    // drop_entry acts
	cursor  flow.ID // where dropEntries goes on
	todo    int     // slots left to look at this second
	random  uint64
	full    bool  // less than an eighth of the table is free
	until   int64 // the table is short of room until then: see strained
}

// strainTime is how long the table counts as short of room after a TCP flow had to make room, or
// found none.
const strainTime = int64(time.Minute)

// strain notes that a TCP flow is not in the table because there is no room.
func (p *pressure) strain(now int64) { p.until = now + strainTime }

// strained reports whether the table is, or was in the last minute, so short of room that TCP flows
// are missing there.
func (p *pressure) strained(now int64) bool { return now < p.until }

// advance looks once a second at how full the table is, and drops entries in bounded steps.
func (p *pressure) advance(w *Worker, now int64) {
	if now >= p.next {
		p.next = now + int64(time.Second)
		set := &w.snap.settings
		p.full = w.table.Len() > w.table.Capacity()/8*7
		acts := func(mode int) bool { return mode == 3 || p.full && (mode == 1 || mode == 2) }
		p.secure = acts(set.SecureTCP)
		p.entry = acts(set.DropEntry)
		p.rate = 0
		if acts(set.DropPacket) {
			p.rate = max(set.AmDroprate, 1)
			if set.DropPacket != 3 {
				p.rate = max(w.table.Capacity()/8/max(w.table.Len()-w.table.Capacity()/8*7, 1), 1)
			}
		}
		if p.entry {
			p.todo = w.table.Slots() / 32
			if p.full {
				p.todo *= 4
			}
		}
	}
	if p.todo > 0 {
		n := min(p.todo, 512)
		p.todo -= n
		p.dropEntries(w, n)
	}
}

// adopt makes new settings act at once.
func (p *pressure) adopt() { p.next = 0 }

// drop reports whether a new flow is to be dropped by drop_packet, and counts it.
func (p *pressure) drop(s *snapshot) bool {
	if p.rate == 0 {
		return false
	}
	if !p.dropsNext() {
		p.counter--
		return false
	}
	p.counter = p.rate
	return true
}

// dropsNext reports whether drop_packet drops the next new flow.
func (p *pressure) dropsNext() bool { return p.rate != 0 && p.counter <= 1 }

// dropEntries looks at the next n slots and ends what the kernel ends (todrop_entry): embryonic
// connections, templates that never had an established one, and at random established connections
// with few packets that have been idle for a minute. In a table that is nearly full unproven flows
// wait for neither the minute nor chance.
func (p *pressure) dropEntries(w *Worker, n int) {
	t := w.table
	for ; n > 0; n-- {
		id := p.cursor
		if p.cursor++; int(p.cursor) >= t.Slots() {
			p.cursor = 0
		}
		if t.InUse(id) && p.drops(w, id, t.Entry(id)) {
			w.end(id)
		}
	}
}

// aMoment is how long an unproven flow may be silent in a table that is nearly full.
const aMoment = time.Second

// drops reports whether drop_entry ends an entry.
func (p *pressure) drops(w *Worker, id flow.ID, e *flow.Entry) bool {
	if e.Kind().IsTemplate() {
		return e.Control == 0 && (e.Flags&flow.Assured == 0 || p.full && e.Flags&flow.Proven == 0)
	}
	if e.Kind() == flow.TCP && (e.State == flow.TCPSynRecv || e.State == flow.TCPSynAck) {
		return true
	}
	idle := time.Duration(w.snap.timeouts.Of(e.Kind(), e.State))*flow.Tick - w.table.Remaining(id)
	if p.full && e.Flags&flow.Proven == 0 {
		return idle >= aMoment
	}
	switch {
	case e.Kind() == flow.TCP && e.State == flow.TCPEstablished, e.Kind() == flow.UDP, e.Kind() == flow.SCTP && e.State == flow.SCTPEstablished:
		return idle >= time.Minute && e.Packets <= 8 && e.Packets != 0 && p.chance(e.Packets)
	}
	return false
}

// chance is true once in as many calls as the connection has packets, and one more: the fewer, the
// likelier.
func (p *pressure) chance(packets uint32) bool {
	p.random = p.random*6364136223846793005 + 1442695040888963407
	return uint32(p.random>>33)%(packets+1) == 0
}
