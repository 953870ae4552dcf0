package replayrun

import (
	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// A side is one of the two configurations that are compared, with its engine.
type side struct {
	*built
	path     string
	listed   []forwarder.ServiceInfo
	services map[forwarder.ServiceKey]*served
	cache    map[vport]*served
	before   forwarder.Stats
	one      [1]frame.Frame
}

// served is a service of a side.
type served struct {
	number    int // among the services of both sides
	onePacket bool
	members   map[member]place
}

// member is where a realserver lives on the wire.
type member struct {
	leg frame.Leg
	mac frame.MAC
}

// vport is what a client sends to. It alone decides which service a packet is for.
type vport struct {
	addr  frame.Addr
	proto frame.Proto
	port  uint16
}

// cacheRoom bounds what is remembered about ports: a service may have all of them, on many
// addresses.
const cacheRoom = 1 << 16

func newSide(b *built, path string) *side {
	return &side{built: b, path: path, listed: b.engine.Services(), services: map[forwarder.ServiceKey]*served{}, cache: map[vport]*served{},
		before: b.engine.Stats()}
}

// outcome is what became of a frame on one side.
type outcome struct {
	verdict forwarder.Verdict
	to      member // if it was forwarded
	fresh   bool   // it made an entry of the connection table, and was forwarded
}

// process runs one frame through the engine.
func (s *side) process(f *frame.Frame, now int64) outcome {
	s.one[0] = *f
	s.one[0].In = s.in
	sent := s.engine.Worker(0).Process(s.one[:], now)
	after := s.engine.Stats()
	o := outcome{verdict: verdictOf(&s.before, &after)}
	if o.verdict == forwarder.Forwarded {
		o.fresh = after.Table.Created != s.before.Table.Created
		for i := range sent { // there may be fragments among it that came earlier
			if &sent[i].Buf[0] == &f.Buf[0] {
				o.to = member{sent[i].Out, sent[i].Dst()}
			}
		}
	}
	s.before = after
	return o
}

// verdictOf is the verdict whose counter has grown: the frame's. It is the only one, for fragments
// that waited take theirs from the frame, and were counted among the fragments before.
func verdictOf(before, after *forwarder.Stats) forwarder.Verdict {
	for v := range forwarder.NumVerdicts {
		if after.Verdicts[v] > before.Verdicts[v] {
			return v
		}
	}
	return forwarder.Fragment // one that waits, and has none yet
}

// service finds the service of a packet, or nil.
func (s *side) service(t *frame.Tuple) *served {
	at := vport{t.Dst, t.Proto, t.DstPort}
	svc, ok := s.cache[at]
	if !ok {
		if len(s.cache) >= cacheRoom {
			clear(s.cache)
		}
		svc = s.services[s.engine.Explain(0, *t).Service]
		s.cache[at] = svc
	}
	return svc
}
