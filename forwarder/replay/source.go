package replay

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Span bounds the time between frames of one batch: all are within the same 2^24 ns, counted from
// the first packet. This is the tick of the connection table. The engine uses one time for all
// frames of a batch, so each flow ends between the same two frames, regardless of how the capture
// is divided into batches.
const Span = 1 << 24

// Longest is the maximum duration of a capture. The clock of the connection table has no larger
// range, and a longer duration comes from a damaged or missing timestamp.
const Longest = 2 * 365 * 24 * time.Hour

// Stats are the counters of a Source.
type Stats struct {
	Format      string // pcap or pcapng
	Compressed  bool   // by gzip
	Packets     uint64 // lent
	Bytes       uint64 // of them, on the wire
	Skipped     uint64 // packets of pcapng interfaces that are not Ethernet
	StepsBack   uint64 // packets with an earlier time than a previous one; they got that time
	Offload     Offload
	First, Last int64 // times of the first and the last packet lent, in nanoseconds since the epoch
}

// A Source lends the frames of a capture. It must not be used concurrently, except for Progress.
type Source struct {
	// In is the leg by which all frames come in.
	In frame.Leg
	// Strict lends all frames as they were captured. Otherwise those that a network card had still
	// to finish are lent as it would have sent them, and counted: see Offload.
	Strict bool

	name   string
	size   int64
	raw    counter
	closer io.Closer
	read   func() (packet, error)
	blocks *blocks // of a pcapng file

	stats Stats
	found uint64 // packets read, including the one ahead
	start int64  // time of the first
	// Packets before the first that has a time, with it; and the error that came instead of it.
	untimed []packet
	then    error
	last    int64 // time of the latest one read

	// The frame that was read but not lent yet, whose bytes are the reader's until the next is
	// read.
	ahead     []byte
	aheadWire int32
	has       bool

	// arena holds the bytes of the batch that is lent.
	arena []byte
	err   error // what the next call has to tell once no frame is ahead
}

var _ forwarder.Source = (*Source)(nil)

// Next lends the next frames: see forwarder.Source. An error of the file is returned after all
// complete packets before it have been lent. From then on, and after io.EOF, every call returns the
// same error.
func (s *Source) Next(batch []frame.Frame) (n int, now int64, err error) {
	s.arena = s.arena[:0]
	for n < len(batch) && s.fetch() {
		if n > 0 && (s.last-s.start)/Span != (batch[0].Time-s.start)/Span {
			break
		}
		batch[n] = s.take()
		n++
	}
	if n == 0 && !s.has {
		err = s.err
	}
	return n, s.stats.Last, err
}

// First returns the time of the first packet, in nanoseconds since the epoch, without lending the
// packet. Call it before Next. For a capture without packets the error is io.EOF.
func (s *Source) First() (int64, error) {
	if !s.fetch() {
		return 0, s.err
	}
	return s.start, nil
}

// Stats returns the counters.
func (s *Source) Stats() Stats {
	if s.blocks != nil {
		s.stats.Skipped = s.blocks.skipped
	}
	return s.stats
}

// Progress returns the number of bytes read and the size of the file; the size is 0 if unknown. It
// is safe for concurrent use.
func (s *Source) Progress() (read, size int64) { return s.raw.n.Load(), s.size }

// Close closes the file opened by Open. Lent frames stay valid.
func (s *Source) Close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// fetch sees to it that a frame is ahead, and reports whether one is.
func (s *Source) fetch() bool {
	if s.has || s.err != nil {
		return s.has
	}
	p, err := s.next()
	if err == nil {
		err = s.accept(p)
	}
	switch {
	case err == nil:
		s.has = true
	case err == io.EOF && s.blocks != nil && !s.blocks.wired && len(s.blocks.links) > 0:
		s.err = fmt.Errorf("%s: %w", s.name, notEthernet(s.blocks.links))
	case err == io.EOF:
		s.err = io.EOF
	default:
		before := s.found
		if s.blocks != nil {
			before += s.blocks.skipped
		}
		s.err = &DamageError{File: s.name, Packet: before + 1, Err: cut(err)}
	}
	return s.has
}

// aheadBytes is how far into a capture the first packet with a time is looked for.
const aheadBytes = 4 << 20

// next reads a packet. What comes without a time comes right after the packet before, or at the
// time of the first that has one: a simple packet block has none.
func (s *Source) next() (p packet, err error) {
	if len(s.untimed) > 0 {
		p, s.untimed = s.untimed[0], s.untimed[1:]
		return p, nil
	}
	if s.then != nil {
		return p, s.then
	}
	if p, err = s.read(); err != nil || p.timed {
		return p, err
	}
	if s.found > 0 {
		p.at = s.last
		return p, nil
	}
	for n := 0; err == nil && !p.timed && n < aheadBytes; p, err = s.read() {
		p.data = bytes.Clone(p.data)
		s.untimed = append(s.untimed, p)
		n += len(p.data) + 64
	}
	if err == nil {
		p.data = bytes.Clone(p.data)
		s.untimed = append(s.untimed, p)
	} else {
		s.then = err
	}
	for i := range s.untimed {
		s.untimed[i].at = p.at // 0 if none has a time
	}
	p, s.untimed = s.untimed[0], s.untimed[1:]
	return p, nil
}

// accept notes length and time of the packet ahead.
func (s *Source) accept(p packet) error {
	if p.wire > math.MaxInt32 {
		return fmt.Errorf("its length on the wire is %d bytes, which is invalid", p.wire)
	}
	at := p.at
	if s.found == 0 {
		s.start, s.last = at, at
	}
	if at-s.start > int64(Longest) {
		return fmt.Errorf("its time is %s, more than two years after the first packet's, %s; "+
			"remove the packets with wrong times, or replay the parts separately", utc(at), utc(s.start))
	}
	if at < s.last {
		s.stats.StepsBack++
	}
	s.last = max(at, s.last)
	s.found++
	s.ahead, s.aheadWire = p.data, max(int32(p.wire), int32(len(p.data)))
	return nil
}

func utc(ns int64) string { return time.Unix(0, ns).UTC().Format(time.DateTime) }

// take copies the frame ahead into the arena.
func (s *Source) take() frame.Frame {
	b := s.room(len(s.ahead))
	copy(b, s.ahead)
	if s.stats.Packets == 0 {
		s.stats.First = s.last
	}
	s.stats.Packets++
	s.stats.Bytes += uint64(s.aheadWire)
	s.stats.Last = s.last
	s.has = false
	f := frame.Frame{Buf: b, Time: s.last, Wire: s.aheadWire, In: s.In, Out: frame.NoLeg}
	if !s.Strict {
		s.complete(&f)
	}
	return f
}

// room returns n bytes of the arena.
func (s *Source) room(n int) []byte {
	at := len(s.arena)
	if at+n > cap(s.arena) {
		// What has been lent stays where it is. The next batch has more room from its start.
		s.arena, at = make([]byte, 0, max(2*cap(s.arena), n, 1<<16)), 0
	}
	s.arena = s.arena[:at+n]
	return s.arena[at : at+n : at+n]
}
