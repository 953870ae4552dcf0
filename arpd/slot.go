package arpd

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// errNoInterface is the error of writing while there is no Conn in a Slot.
var errNoInterface = errors.New("there is no interface at present")

// errNoSplitter tells that the Conn in a Slot has no answers apart.
var errNoSplitter = errors.New("all messages are read together")

// A Slot is a Conn that holds another Conn, which can be replaced. So a Link can continue while its
// interface is deleted and created again. While the Slot is empty, Read waits and Write fails. All
// methods are safe for concurrent use.
type Slot struct {
	mu      sync.Mutex
	conn    Conn
	turn    uint64        // how often conn was changed
	changed chan struct{} // closed with the next change
	closed  bool
	joined  map[netip.Addr]bool
	dropped uint64 // of Conns that were taken out
}

// NewSlot returns a Slot that holds c; c may be nil.
func NewSlot(c Conn) *Slot {
	return &Slot{conn: c, changed: make(chan struct{}), joined: map[netip.Addr]bool{}}
}

// Put replaces the Conn and closes the previous one; c may be nil. The new Conn joins the groups of
// the previous one; the error is that of joining.
func (s *Slot) Put(c Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		if c != nil {
			return c.Close()
		}
		return nil
	}
	var errs []error
	s.dropped += drops(s.conn)
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	s.conn = c
	s.turn++
	close(s.changed)
	s.changed = make(chan struct{})
	if j, ok := c.(Joiner); ok {
		for addr := range s.joined {
			errs = append(errs, j.Join(addr))
		}
	}
	return errors.Join(errs...)
}

// Read waits for a Conn and returns a frame from it.
func (s *Slot) Read(b []byte) (int, error) {
	return s.read(func(c Conn) (int, error) { return c.Read(b) })
}

// ReadAnswer waits for a Conn that is a Splitter and returns an answer from it.
func (s *Slot) ReadAnswer(b []byte) (int, error) {
	return s.read(func(c Conn) (int, error) {
		if sp, ok := c.(Splitter); ok {
			return sp.ReadAnswer(b)
		}
		return 0, errNoSplitter
	})
}

// read has fn read from the Conn that is in it, until one read something or failed while it was in
// it.
func (s *Slot) read(fn func(Conn) (int, error)) (int, error) {
	for {
		s.mu.Lock()
		c, turn, changed, closed := s.conn, s.turn, s.changed, s.closed
		s.mu.Unlock()
		if closed {
			return 0, net.ErrClosed
		}
		if c == nil {
			<-changed
			continue
		}
		n, err := fn(c)
		if err == nil {
			return n, nil
		}
		if err == errNoSplitter {
			<-changed
			continue
		}
		s.mu.Lock()
		other := s.turn != turn || s.closed
		s.mu.Unlock()
		if !other {
			return n, err
		}
	}
}

// Write writes to the present Conn.
func (s *Slot) Write(b []byte) (int, error) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c == nil {
		return 0, errNoInterface
	}
	return c.Write(b)
}

// Join receives solicitations for addr, on the present Conn and on later ones.
func (s *Slot) Join(addr netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined[addr] = true
	if j, ok := s.conn.(Joiner); ok {
		return j.Join(addr)
	}
	return nil
}

// Leave undoes Join.
func (s *Slot) Leave(addr netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.joined, addr)
	if j, ok := s.conn.(Joiner); ok {
		return j.Leave(addr)
	}
	return nil
}

// Dropped returns the number of frames dropped because they were not read fast enough.
func (s *Slot) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped + drops(s.conn)
}

func drops(c Conn) uint64 {
	if d, ok := c.(Dropper); ok {
		return d.Dropped()
	}
	return 0
}

// Close closes the Slot and its Conn permanently.
func (s *Slot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.changed)
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
