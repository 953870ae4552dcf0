package arpd

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"shunt/forwarder/frame"
)

// State is what is known of a neighbour.
type State uint8

// The states.
const (
	Incomplete State = iota // asked for, never answered
	Resolved                // its MAC is known
	Stale                   // known, but due to be asked for again: it is used until it fails
	Failed                  // asked for several times without an answer; it is asked for on, more and more rarely
	Static                  // its MAC was given, and is not asked for
)

var stateNames = [...]string{"incomplete", "resolved", "stale", "failed", "static"}

// String names the state in a word.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// A Neighbour is a host on the link that the director sends to. MAC is zero unless frames can be sent to it.
type Neighbour struct {
	Addr  netip.Addr
	MAC   frame.MAC
	State State
	Since time.Time // of the state
}

// Times of resolution. The first questions come densely, so that a director starts within a second.
var firstGaps = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, time.Second, time.Second}

const (
	staleTries   = 5 // questions for a stale neighbour: two to itself, then to all
	staleUnicast = 2
	staleGap     = time.Second
	longestGap   = 30 * time.Second
)

// answerWindow is how long after a question an answer to it is waited for; what comes later nobody asked for.
const answerWindow = 3 * time.Second

// How long the MAC of a neighbour that was removed is remembered, and of how many.
const (
	remembered = time.Minute
	mostLeft   = 4096
)

// A Resolver finds and keeps the MACs of neighbours. It is not safe for several goroutines.
//
// It believes answers to its questions only. What a neighbour says unasked, as a gratuitous announcement of another MAC, has
// it ask again at once: so a change is known within the time of an answer, and a forged message alone moves nobody.
type Resolver struct {
	// LearnGratuitous has it believe messages that nobody asked for, too.
	LearnGratuitous bool

	refresh time.Duration
	targets map[netip.Addr]*target
	due     queue // of those that are asked for, the next first
	changed []Neighbour
	hurried bool // something is to be asked sooner than Due said

	left map[netip.Addr]Neighbour // those that were removed lately with their MAC known; Since is when
}

type target struct {
	Neighbour
	tries int
	gap   time.Duration
	next  time.Time
	asked time.Time // the last question
	told  time.Time // the last time that something unasked had us ask
	place int       // in the queue; -1 if it is not asked for
}

// queue is a heap of targets by the time of their next question: with tens of thousands of them nothing may look at all. Those
// that are due at the same time are asked for in the order of their addresses.
type queue []*target

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if c := q[i].next.Compare(q[j].next); c != 0 {
		return c < 0
	}
	return q[i].Addr.Less(q[j].Addr)
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}
func (q *queue) Push(x any) {
	t := x.(*target)
	t.place = len(*q)
	*q = append(*q, t)
}
func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.place = -1
	return t
}

// Questions are asked in portions, so that the answers to many do not come all at once and get lost.
const (
	portion    = 100
	portionGap = 5 * time.Millisecond
)

// NewResolver returns a Resolver that asks again for a neighbour that was not heard of for the time of refresh.
func NewResolver(refresh time.Duration) *Resolver {
	return &Resolver{refresh: refresh, targets: map[netip.Addr]*target{}, left: map[netip.Addr]Neighbour{}}
}

// SetTargets replaces the neighbours to resolve. What is known of those that stay, stays. A target with a MAC is static.
func (r *Resolver) SetTargets(targets map[netip.Addr]frame.MAC, now time.Time) {
	for addr := range r.targets {
		if _, stays := targets[addr]; !stays {
			r.Remove(addr, now)
		}
	}
	if len(r.targets) == 0 {
		r.targets = make(map[netip.Addr]*target, len(targets))
	}
	for addr, mac := range targets {
		r.Add(addr, mac, now)
	}
}

// Add adds one to the neighbours to resolve; one with a MAC is static. If it is there already, what is known of it stays.
func (r *Resolver) Add(addr netip.Addr, mac frame.MAC, now time.Time) {
	t := r.targets[addr]
	if t != nil && (t.State == Static && t.MAC == mac || t.State != Static && mac.IsZero()) {
		return
	}
	r.drop(addr)
	t = &target{Neighbour: Neighbour{addr, mac, Static, now}, next: now, place: -1}
	if mac.IsZero() {
		t.State = Incomplete
		if was, ok := r.left[addr]; ok && now.Sub(was.Since) < remembered {
			t.State, t.MAC = Stale, was.MAC // who fails health checks comes and goes
		}
		heap.Push(&r.due, t)
	}
	delete(r.left, addr)
	r.targets[addr] = t
	r.changed = append(r.changed, t.Neighbour)
}

// Remove takes one away. If it is added again within a minute its MAC is still believed, and asked for at once.
func (r *Resolver) Remove(addr netip.Addr, now time.Time) {
	t := r.targets[addr]
	if t == nil {
		return
	}
	if t.State == Resolved || t.State == Stale {
		if len(r.left) >= mostLeft {
			clear(r.left)
		}
		r.left[addr] = Neighbour{Addr: addr, MAC: t.MAC, Since: now}
	}
	r.drop(addr)
}

func (r *Resolver) drop(addr netip.Addr) {
	t := r.targets[addr]
	if t == nil {
		return
	}
	if t.place >= 0 {
		heap.Remove(&r.due, t.place)
	}
	delete(r.targets, addr)
}

// Hurried reports, once, that since the last call a message has made a question due sooner than Due said.
func (r *Resolver) Hurried() bool {
	h := r.hurried
	r.hurried = false
	return h
}

// schedule puts off or brings forward the next question for a target.
func (r *Resolver) schedule(t *target, next time.Time) {
	t.next = next
	heap.Fix(&r.due, t.place)
}

// Handle learns from a message of somebody: the answer to a question, or anything else that a neighbour sends from its
// address. It reports whether it was of use.
func (r *Resolver) Handle(m *Message, now time.Time) bool {
	t := r.targets[m.Sender]
	if t == nil || t.State == Static {
		return false
	}
	answer := m.Reply && !m.Destination.IsGroup() && !t.asked.IsZero() && now.Sub(t.asked) <= answerWindow
	if !answer && !r.LearnGratuitous && t.MAC != m.SenderMAC {
		if now.Sub(t.told) >= staleGap {
			t.told, r.hurried = now, true
			r.schedule(t, now)
			if t.State == Resolved {
				r.become(t, Stale, t.MAC, now)
			}
			t.tries = staleUnicast // the question is to go to all
		}
		return true
	}
	if t.State != Resolved || t.MAC != m.SenderMAC {
		r.become(t, Resolved, m.SenderMAC, now)
	}
	t.tries = 0
	r.schedule(t, now.Add(r.refresh))
	return true
}

// Again has all neighbours asked for at once, as when the interface is another one. Those that failed are as new; the others'
// MACs are believed until they fail.
func (r *Resolver) Again(now time.Time) {
	for _, t := range r.targets {
		switch t.State {
		case Static:
		case Resolved, Stale:
			r.become(t, Stale, t.MAC, now)
			t.tries, t.next = staleUnicast, now // the question is to go to all
		default:
			if t.State == Failed {
				r.become(t, Incomplete, frame.MAC{}, now)
			}
			t.tries, t.next = 0, now
		}
	}
	heap.Init(&r.due)
}

func (r *Resolver) become(t *target, s State, mac frame.MAC, now time.Time) {
	t.State, t.MAC, t.Since = s, mac, now
	r.changed = append(r.changed, t.Neighbour)
}

// Due returns the questions to ask by now, a portion of them if they are many, and when to call again; the zero time is never.
func (r *Resolver) Due(self *Self, now time.Time) (out []Message, next time.Time) {
	for len(out) < portion && len(r.due) > 0 && !r.due[0].next.After(now) {
		t := r.due[0]
		out = append(out, self.request(t.Addr, r.ask(t, now)))
		heap.Fix(&r.due, 0)
	}
	if len(r.due) == 0 {
		return out, next
	}
	next = r.due[0].next
	if !next.After(now) {
		next = now.Add(portionGap)
	}
	return out, next
}

// ask moves t on by one question, and returns to whom it goes.
func (r *Resolver) ask(t *target, now time.Time) frame.MAC {
	to := Broadcast
	t.asked = now
	switch t.State {
	case Resolved:
		r.become(t, Stale, t.MAC, now)
		t.tries = 0
		fallthrough
	case Stale:
		if t.tries++; t.tries > staleTries {
			t.gap = staleGap
			r.become(t, Failed, frame.MAC{}, now)
		} else if t.tries <= staleUnicast {
			to = t.MAC // RFC 1122, 2.3.2.1: a unicast poll
		}
		t.next = now.Add(staleGap)
	case Incomplete:
		if t.tries == len(firstGaps) {
			t.gap = staleGap
			r.become(t, Failed, frame.MAC{}, now)
			t.next = now.Add(t.gap)
			break
		}
		t.next = now.Add(firstGaps[t.tries])
		t.tries++
	default:
		t.gap = min(2*t.gap, longestGap)
		t.next = now.Add(t.gap)
	}
	return to
}

// Changes returns what changed since the last call, in order.
func (r *Resolver) Changes() []Neighbour {
	out := r.changed
	r.changed = nil
	return out
}

// Neighbours lists all, in the order of their addresses.
func (r *Resolver) Neighbours() []Neighbour {
	out := make([]Neighbour, 0, len(r.targets))
	for _, t := range r.targets {
		out = append(out, t.Neighbour)
	}
	slices.SortFunc(out, func(a, b Neighbour) int { return a.Addr.Compare(b.Addr) })
	return out
}
