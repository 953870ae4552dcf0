package arpd

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"shunt/forwarder/frame"
)

// State is the state of a neighbour.
type State uint8

// The states.
const (
	Incomplete State = iota // requests sent, never answered
	Resolved                // its MAC is known
	Stale                   // MAC known, a new request is due: it is used until it fails
	Failed                  // several requests without an answer; requests continue at growing intervals
	Static                  // MAC configured, no requests
)

var stateNames = [...]string{"incomplete", "resolved", "stale", "failed", "static"}

// String returns the state as one word.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// A Neighbour is a host on the link to which the director sends frames. MAC is zero if no frames
// can be sent to it.
type Neighbour struct {
	Addr  netip.Addr
	MAC   frame.MAC
	State State
	Since time.Time // of the state

	Disputes uint64    // number of answers of other hosts for this address
	Disputed time.Time // time of the last such answer; zero is never
	Rival    frame.MAC // MAC of the host that sent it
}

// Times of resolution. The first questions come densely, so that a director starts within a second.
var firstGaps = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, time.Second, time.Second}

const (
	staleTries   = 5 // questions for a stale neighbour: two to itself, then to all
	staleUnicast = 2
	staleGap     = time.Second
	suspectGap   = 500 * time.Millisecond // if frames to it seem to be lost: see Suspect
	longestGap   = 30 * time.Second
)

// A neighbour that seems to have another MAC is asked at the one that is known, checkTries times,
// checkGap apart. Only if it is silent there, it has moved.
const (
	checkTries = 2
	checkGap   = 500 * time.Millisecond
)

// answerWindow is how long after a question an answer to it is waited for; what comes later nobody
// asked for.
const answerWindow = 3 * time.Second

// How long the MAC of a neighbour that was removed is remembered, and of how many.
const (
	remembered = time.Minute
	mostLeft   = 4096
)

// A Resolver resolves the MACs of neighbours and keeps them current. It is not safe for concurrent
// use.
//
// It accepts only answers to its requests, and only the first of several answers to one request. An
// unsolicited message, such as a gratuitous announcement of another MAC, triggers a new request at
// once. An answer from another MAC than the known one counts only if the neighbour is silent at the
// known MAC: the Resolver sends a request there, and accepts the other MAC a second later. So a
// real change is known within about a second, and forged messages cannot move a neighbour that is
// present; see Neighbour.Disputes.
type Resolver struct {
	// LearnGratuitous has it believe messages that nobody asked for, too.
	LearnGratuitous bool

	refresh  time.Duration
	targets  map[netip.Addr]*target
	due      queue // of those that are asked for, the next first
	changed  []Neighbour
	disputes []Neighbour
	hurried  bool // something is to be asked sooner than Due said

	left map[netip.Addr]Neighbour // those that were removed lately with their MAC known; Since is when
}

type target struct {
	Neighbour
	tries int
	gap   time.Duration
	next  time.Time
	asked time.Time // the last question
	told  time.Time // the last time that something unasked had us ask
	open  bool      // the last question has no answer yet

	silent  int       // questions to its MAC alone that were not answered, one after the other
	claimed frame.MAC // that of an answer while its own is checked; else zero
	checks  int       // questions of the check
	suspect bool      // it is asked for densely: see Suspect
	place   int       // in the queue; -1 if it is not asked for
}

// queue is a heap of targets by the time of their next question: with tens of thousands of them
// nothing may look at all. Those that are due at the same time are asked for in the order of their
// addresses.
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

// Questions are asked in portions, so that the answers to many do not come all at once and get
// lost.
const (
	portion    = 100
	portionGap = 5 * time.Millisecond
)

// NewResolver returns a Resolver that sends a new request for a neighbour not heard of for the time
// refresh.
func NewResolver(refresh time.Duration) *Resolver {
	return &Resolver{refresh: refresh, targets: map[netip.Addr]*target{}, left: map[netip.Addr]Neighbour{}}
}

// SetTargets replaces the neighbours to resolve. Neighbours that remain keep their state. A target
// with a MAC is static.
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

// Add adds a neighbour to resolve. A neighbour with a MAC is static. If the neighbour exists, its
// state is kept.
func (r *Resolver) Add(addr netip.Addr, mac frame.MAC, now time.Time) {
	t := r.targets[addr]
	if t != nil && (t.State == Static && t.MAC == mac || t.State != Static && mac.IsZero()) {
		return
	}
	r.drop(addr)
	t = &target{Neighbour: Neighbour{Addr: addr, MAC: mac, State: Static, Since: now}, next: now, place: -1}
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

// Remove removes a neighbour. If it is added again within a minute, its MAC is still valid, and a
// request is sent at once.
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

// Hurried reports whether, since the last call, a message has made a request due earlier than Due
// returned.
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

// Handle processes a message: the answer to a request, or any other message sent from a neighbour's
// address. It reports whether the message was used.
func (r *Resolver) Handle(m *Message, now time.Time) bool {
	t := r.targets[m.Sender]
	if t == nil || t.State == Static {
		return false
	}
	answer := m.Reply && !m.Destination.IsGroup() && !t.asked.IsZero() && now.Sub(t.asked) <= answerWindow
	switch first := answer && t.open; {
	case r.LearnGratuitous, t.MAC.IsZero() && first:
		r.believe(t, m.SenderMAC, now)
	case t.MAC == m.SenderMAC:
		r.same(t, answer, now)
	case first && t.claimed.IsZero() && t.silent >= checkTries:
		r.believe(t, m.SenderMAC, now)
	case first && t.claimed.IsZero():
		t.open, t.claimed, t.checks, r.hurried = false, m.SenderMAC, 0, true
		r.schedule(t, now)
	case answer && !t.MAC.IsZero():
		if t.claimed != m.SenderMAC {
			r.dispute(t, m.SenderMAC, now)
		}
	default:
		r.provoke(t, now)
	}
	return true
}

// believe has a neighbour at a MAC.
func (r *Resolver) believe(t *target, mac frame.MAC, now time.Time) {
	t.open, t.suspect, t.claimed, t.tries, t.silent = false, false, frame.MAC{}, 0, 0
	if t.State != Resolved || t.MAC != mac {
		r.become(t, Resolved, mac, now)
	}
	r.schedule(t, now.Add(r.refresh))
}

// same has heard a neighbour at the MAC that is known. While that is checked only an answer counts,
// which shows that the other one who answered is not the neighbour.
func (r *Resolver) same(t *target, answer bool, now time.Time) {
	other := t.claimed
	if !other.IsZero() && !answer {
		return
	}
	r.believe(t, t.MAC, now)
	if !other.IsZero() {
		r.dispute(t, other, now)
	}
}

// dispute notes that somebody else answered for a neighbour too. It is asked again, at the MAC that
// is known.
func (r *Resolver) dispute(t *target, other frame.MAC, now time.Time) {
	t.Disputes++
	t.Disputed, t.Rival = now, other
	r.disputes = append(r.disputes, t.Neighbour)
	if again := now.Add(staleGap); t.claimed.IsZero() && t.next.After(again) {
		r.hurried = true
		r.schedule(t, again)
	}
}

// provoke asks for a neighbour at once, as something that nobody asked for tells of another MAC;
// but not more than once a second.
func (r *Resolver) provoke(t *target, now time.Time) {
	if now.Sub(t.told) < staleGap || !t.claimed.IsZero() {
		return
	}
	t.told, r.hurried = now, true
	r.schedule(t, now)
	if t.State == Resolved {
		r.become(t, Stale, t.MAC, now)
	}
	t.tries = staleUnicast // the question is to go to all
}

// Suspect sends requests for a neighbour at once, because frames to it appear to be lost: first to
// its MAC, then to all hosts. It does nothing if requests are already pending, or if the neighbour
// answered within the last second.
func (r *Resolver) Suspect(addr netip.Addr, now time.Time) {
	t := r.targets[addr]
	if t == nil || t.State != Resolved || !t.claimed.IsZero() || now.Sub(t.asked) < staleGap {
		return
	}
	t.suspect, r.hurried = true, true
	r.schedule(t, now)
}

// Again schedules requests for all neighbours at once, as after the interface was replaced. Failed
// neighbours start anew. The MACs of the others stay valid until they fail.
func (r *Resolver) Again(now time.Time) {
	for _, t := range r.targets {
		t.claimed, t.silent = frame.MAC{}, 0
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

// Due returns the requests due at now, and the time of the next call; the zero time is never. If
// many requests are due, it returns a portion of them.
func (r *Resolver) Due(self *Self, now time.Time) (out []Message, next time.Time) {
	for len(out) < portion && len(r.due) > 0 && !r.due[0].next.After(now) {
		t := r.due[0]
		if !t.claimed.IsZero() && t.checks == checkTries {
			r.believe(t, t.claimed, now) // the other was silent
			continue
		}
		to := r.ask(t, now)
		t.asked, t.open = now, true
		if to != Broadcast {
			t.silent++
		}
		out = append(out, self.request(t.Addr, to))
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
	if !t.claimed.IsZero() {
		t.checks++
		t.next = now.Add(checkGap)
		return t.MAC
	}
	to := Broadcast
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
		if t.suspect {
			t.next = now.Add(suspectGap)
		}
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

// Disputes returns the neighbours for which another host answered, too, since the last call, in
// order: see Neighbour.Rival.
func (r *Resolver) Disputes() []Neighbour {
	out := r.disputes
	r.disputes = nil
	return out
}

// Changes returns the neighbours changed since the last call, in order.
func (r *Resolver) Changes() []Neighbour {
	out := r.changed
	r.changed = nil
	return out
}

// Neighbours lists all neighbours in the order of their addresses.
func (r *Resolver) Neighbours() []Neighbour {
	out := make([]Neighbour, 0, len(r.targets))
	for _, t := range r.targets {
		out = append(out, t.Neighbour)
	}
	slices.SortFunc(out, func(a, b Neighbour) int { return a.Addr.Compare(b.Addr) })
	return out
}
