// Package ifwatch follows network interfaces by the kernel's notifications (rtnetlink(7)). A
// notification only says where to look: who is told reads anew what is, so that a lost one does no
// harm.
package ifwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// every is how often a Follower looks without being told to: for an interface that could not be
// used when it came, and for what was missed.
const every = time.Second

// Running are the flags of an interface that frames come and go by.
const Running = unix.IFF_UP | unix.IFF_RUNNING

// An Event is what a notification said, which may be over by the time that the interface is looked
// at.
type Event struct {
	Index     int
	Name      string // of the interface; empty with Addresses
	Down      bool   // it was not running
	Deleted   bool
	Addresses bool // it got or lost one
}

// A Follower is told of interfaces, by one goroutine.
type Follower struct {
	All   func()      // all may have changed: it is called first, and after notifications were lost
	Event func(Event) // one may have changed
	Look  func()      // a second is over
}

// Watch tells f until ctx is done. Where there are no notifications, f looks every second.
func Watch(ctx context.Context, log *slog.Logger, f Follower) { watch(ctx, log, f, subscribe) }

func watch(ctx context.Context, log *slog.Logger, f Follower, subscribe func() (*subscription, error)) {
	for again := false; ctx.Err() == nil; again = true {
		s, err := subscribe()
		if err != nil {
			log.Warn("no kernel notifications about interfaces: the director polls the interfaces every second", "error", err)
			s = &subscription{} // of which nothing comes
		}
		if again {
			log.Warn("kernel notifications about interfaces were lost: reading all interfaces again")
		}
		f.All()
		err = s.tell(ctx, f)
		s.end()
		if err != nil {
			log.Warn("kernel notifications about interfaces stopped", "error", err)
		}
	}
}

// subscription is the stream of notifications about links and addresses.
type subscription struct {
	links     chan netlink.LinkUpdate
	addrs     chan netlink.AddrUpdate
	done      chan struct{}
	lastError atomic.Pointer[error]
}

func subscribe() (*subscription, error) {
	s := &subscription{links: make(chan netlink.LinkUpdate, 64), addrs: make(chan netlink.AddrUpdate, 64), done: make(chan struct{})}
	note := func(err error) { s.lastError.Store(&err) }
	if err := netlink.LinkSubscribeWithOptions(s.links, s.done, netlink.LinkSubscribeOptions{ErrorCallback: note}); err != nil {
		return nil, fmt.Errorf("subscribe to interface changes: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(s.addrs, s.done, netlink.AddrSubscribeOptions{ErrorCallback: note}); err != nil {
		close(s.done)
		return nil, fmt.Errorf("subscribe to address changes: %w", err)
	}
	return s, nil
}

// end ends it; what still comes is not looked at.
func (s *subscription) end() {
	if s.done == nil {
		return
	}
	close(s.done)
	go func() {
		for range s.links { // the library's goroutine may be about to write
		}
	}()
	go func() {
		for range s.addrs {
		}
	}()
}

// lost is the error of a subscription that ended by itself, as when its socket's buffer was full
// (ENOBUFS).
func (s *subscription) lost() error {
	if err := s.lastError.Load(); err != nil {
		return *err
	}
	return errors.New("the subscription ended")
}

// tell passes notifications on until ctx is done, or until there come no more; the error says why
// not.
func (s *subscription) tell(ctx context.Context, f Follower) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-s.links:
			if !ok {
				return s.lost()
			}
			f.Event(Event{
				Index: int(u.Index), Name: u.Attrs().Name, Down: u.Attrs().RawFlags&Running != Running,
				// Leaving a bridge is told as a deletion too, of another family.
				Deleted: u.Header.Type == unix.RTM_DELLINK && u.IfInfomsg.Family == unix.AF_UNSPEC,
			})
		case u, ok := <-s.addrs:
			if !ok {
				return s.lost()
			}
			f.Event(Event{Index: u.LinkIndex, Addresses: true})
		case <-tick.C:
			f.Look()
		}
	}
}
