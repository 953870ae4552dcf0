package forwarder

import (
	"encoding/binary"

	"shunt/forwarder/flow"
	"shunt/forwarder/frame"
)

// Where there are thousands of services that are all busy, neither VIPs nor destinations nor their
// counters are in the processor's nearest cache. So they are read in short loops for some frames at
// a time before they are needed, so that many reads are under way at once. What these functions
// return means nothing, but has to be used for the reads to happen.

// Up to so many slots of VIPs, and so many destinations, that would cost more than it brings.
const (
	nearVIPs  = 1024
	nearDests = 512
)

// touch reads the slots in which the VIPs of these frames are looked for first, as if all were of
// IPv4.
func (t *vipTable) touch(frames []frame.Frame) (read uint64) {
	const dst = frame.HeaderLen + 16
	for i := range frames {
		if b := frames[i].Buf[frames[i].Head:]; len(b) >= dst+4 {
			read += t.four[t.home(binary.BigEndian.Uint32(b[dst:]))&(len(t.four)-1)]
		}
	}
	return read
}

// touchDests reads the destinations of the flows that these hints name, their counters, and those
// of their services.
func (w *Worker) touchDests(s *snapshot, hints []flow.ID) (read uint64) {
	for _, id := range hints {
		n := uint64(w.table.DestAt(id))
		if n < uint64(len(s.dests)) && n < uint64(len(w.dests)) {
			read += w.dests[n].Packets
			if service := int(s.dests[n].service); service < len(w.services) {
				read += w.services[service].Packets
			}
		}
	}
	return read
}
