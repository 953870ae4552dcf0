package arpd

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"shunt/forwarder/frame"
)

// A Conn reads and writes the ARP and NDP frames of one interface, from the Ethernet header on.
// After Close, Read fails with net.ErrClosed. After other errors the Conn remains usable.
type Conn interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
}

// A Joiner is a Conn that must join the multicast groups of IPv6 addresses to receive the
// solicitations for them.
type Joiner interface {
	Join(addr netip.Addr) error
	Leave(addr netip.Addr) error
}

// A Splitter is a Conn with two queues. ReadAnswer returns the answers sent to this host alone,
// including those to its requests. Read returns all other frames. So a flood of other frames does
// not delay the answers.
type Splitter interface {
	ReadAnswer(b []byte) (int, error)
}

// A Dropper is a Conn that counts the frames dropped since it was opened because they were not read
// fast enough.
type Dropper interface{ Dropped() uint64 }

// LinkConfig configures a Link. The Link calls its functions from its own goroutines, one at a
// time. The functions must not call the Link.
type LinkConfig struct {
	MAC      frame.MAC  // of the interface; see SetMAC
	Addr     netip.Addr // the director's own IPv4 address on this interface, the sender of requests; may be invalid
	Addr6    netip.Addr // likewise of IPv6
	VLAN     uint16     // 0: untagged
	TPID     uint16     // of the VLAN's tags; 0 is 0x8100 (802.1Q)
	Announce time.Duration
	Watch    time.Duration // interval of requests for the VIPs: see Announcer
	Refresh  time.Duration
	// Private is for a link without clients: the VIPs are watched, but neither answered for nor
	// announced.
	Private bool
	// LearnGratuitous has messages believed that nobody asked for: see Resolver.
	LearnGratuitous bool

	// Ours reports whether a MAC is one of the director's own. Messages from such a MAC are
	// ignored. It is called for each frame; nil means none.
	Ours func(frame.MAC) bool
	// Changed reports changed neighbours, in order. The callee owns the list.
	Changed func([]Neighbour)
	// Disputed reports a neighbour for which another host answered, too. The known MAC is kept: see
	// Neighbour.Rival.
	Disputed func(Neighbour)
	// Conflict reports that another host claims a VIP.
	Conflict func(vip netip.Addr, mac frame.MAC)
}

// Counters are the totals of a Link.
type Counters struct {
	Received  uint64 // ARP and NDP frames
	Malformed uint64 // of these, invalid
	Answered  uint64 // requests for VIPs
	Limited   uint64 // requests not answered because there were too many
	Announced uint64
	Probed    uint64 // requests for VIPs, to detect other hosts that answer
	Asked     uint64 // requests for neighbours
	Learnt    uint64 // messages of neighbours
	Conflicts uint64 // messages of other hosts that claim a VIP
	Changed   uint64 // changes of a neighbour's state or MAC
	Failures  uint64 // of these, neighbours that became unresolvable
	Disputes  uint64 // answers of another host for a neighbour
	Excess    uint64 // messages ignored because one MAC sent too many
	Errors    uint64 // frames that could not be read or sent
	Dropped   uint64 // frames dropped in a flood because they were not read fast enough
}

// A Link runs Responder, Announcer and Resolver on one interface. All methods may be called from
// any goroutine.
type Link struct {
	cfg       LinkConfig
	conn      Conn
	responder *Responder
	kick      chan struct{}

	mac atomic.Pointer[frame.MAC]

	handling sync.Mutex // one message at a time
	answers  allowance  // guarded by handling

	mu        sync.Mutex // guards what follows
	v4, v6    netip.Addr // the director's own
	announcer *Announcer
	resolver  *Resolver
	joined    map[netip.Addr]bool

	tell  sync.Mutex // one call of Changed and Conflict at a time, in order
	count struct {
		received, malformed, answered, limited, announced, probed, asked, learnt, conflicts, changed, failures, disputes, excess, errors atomic.Uint64
	}
}

// NewLink returns a Link over conn. The Link closes conn when Run returns.
func NewLink(conn Conn, cfg LinkConfig) *Link {
	if cfg.Changed == nil {
		cfg.Changed = func([]Neighbour) {}
	}
	if cfg.Ours == nil {
		cfg.Ours = func(frame.MAC) bool { return false }
	}
	if cfg.Disputed == nil {
		cfg.Disputed = func(Neighbour) {}
	}
	if cfg.Conflict == nil {
		cfg.Conflict = func(netip.Addr, frame.MAC) {}
	}
	l := &Link{
		cfg: cfg, conn: conn, responder: NewResponder(), kick: make(chan struct{}, 1),
		announcer: NewAnnouncer(cfg.Announce), resolver: NewResolver(cfg.Refresh), joined: map[netip.Addr]bool{},
		answers: allowance{rate: answerRate, burst: answerBurst},
		v4:      cfg.Addr, v6: cfg.Addr6,
	}
	l.announcer.Watch, l.announcer.Silent, l.responder.Silent = cfg.Watch, cfg.Private, cfg.Private
	l.mac.Store(&cfg.MAC)
	l.resolver.LearnGratuitous = cfg.LearnGratuitous
	return l
}

// SetMAC sets the MAC of the interface. The VIPs are announced at once.
func (l *Link) SetMAC(mac frame.MAC) {
	l.mac.Store(&mac)
	l.Announce()
}

// SetAddrs sets the director's own addresses on this interface, from which it sends requests. They
// may be invalid.
func (l *Link) SetAddrs(v4, v6 netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.v4, l.v6 = v4, v6
}

// Again restarts the Link, as after the interface was down or replaced: it announces the VIPs and
// sends requests for all neighbours at once. Known MACs stay valid until their neighbours fail.
func (l *Link) Again() {
	l.mu.Lock()
	now := time.Now()
	l.announcer.Again(now)
	l.resolver.Again(now)
	l.mu.Unlock()
	l.wake()
}

// SetVIPs replaces the virtual addresses. They are answered for and announced; on a private link
// they are only watched.
func (l *Link) SetVIPs(vips []netip.Addr) {
	l.responder.SetVIPs(vips)
	l.mu.Lock()
	l.announcer.SetVIPs(vips, time.Now())
	l.join(vips)
	l.mu.Unlock()
	l.wake()
}

// ChangeVIPs adds and removes virtual addresses: see SetVIPs.
func (l *Link) ChangeVIPs(add, remove []netip.Addr) {
	l.responder.ChangeVIPs(add, remove)
	l.mu.Lock()
	l.announcer.ChangeVIPs(add, remove, time.Now())
	if j, ok := l.conn.(Joiner); ok {
		for _, v := range add {
			if v.Is6() && !l.joined[v] {
				l.joined[v] = true
				l.failed(j.Join(v))
			}
		}
		for _, v := range remove {
			if l.joined[v] {
				delete(l.joined, v)
				l.failed(j.Leave(v))
			}
		}
	}
	l.mu.Unlock()
	l.wake()
}

// failed counts an error.
func (l *Link) failed(err error) {
	if err != nil {
		l.count.errors.Add(1)
	}
}

// join has the questions for IPv6 addresses come here. l.mu is held.
func (l *Link) join(vips []netip.Addr) {
	j, ok := l.conn.(Joiner)
	if !ok {
		return
	}
	wanted := map[netip.Addr]bool{}
	for _, v := range vips {
		if v.Is6() {
			wanted[v] = true
		}
	}
	for v := range wanted {
		if !l.joined[v] {
			l.failed(j.Join(v))
		}
	}
	for v := range l.joined {
		if !wanted[v] {
			l.failed(j.Leave(v))
		}
	}
	l.joined = wanted
}

// SetTargets replaces the neighbours to resolve: see Resolver.SetTargets.
func (l *Link) SetTargets(targets map[netip.Addr]frame.MAC) {
	l.mu.Lock()
	l.resolver.SetTargets(targets, time.Now())
	l.mu.Unlock()
	l.wake()
}

// ChangeTargets adds and removes neighbours to resolve.
func (l *Link) ChangeTargets(add map[netip.Addr]frame.MAC, remove []netip.Addr) {
	now := time.Now()
	l.mu.Lock()
	for addr, mac := range add {
		l.resolver.Add(addr, mac, now)
	}
	for _, addr := range remove {
		l.resolver.Remove(addr, now)
	}
	l.mu.Unlock()
	l.wake()
}

// Suspect reports neighbours to which frames appear to be lost: see Resolver.Suspect.
func (l *Link) Suspect(addrs []netip.Addr) {
	now := time.Now()
	l.mu.Lock()
	for _, a := range addrs {
		l.resolver.Suspect(a, now)
	}
	hurried := l.resolver.Hurried()
	l.mu.Unlock()
	if hurried {
		l.wake()
	}
}

// Announce announces all VIPs at once.
func (l *Link) Announce() {
	l.mu.Lock()
	l.announcer.Again(time.Now())
	l.mu.Unlock()
	l.wake()
}

func (l *Link) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Neighbours lists the neighbours in the order of their addresses.
func (l *Link) Neighbours() []Neighbour {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resolver.Neighbours()
}

// Counters returns the totals.
func (l *Link) Counters() Counters {
	c := &l.count
	return Counters{
		Probed: c.probed.Load(), Dropped: drops(l.conn), Received: c.received.Load(), Malformed: c.malformed.Load(), Answered: c.answered.Load(), Limited: c.limited.Load(), Announced: c.announced.Load(),
		Asked: c.asked.Load(), Learnt: c.learnt.Load(), Conflicts: c.conflicts.Load(), Changed: c.changed.Load(),
		Failures: c.failures.Load(), Disputes: c.disputes.Load(), Excess: c.excess.Load(), Errors: c.errors.Load(),
	}
}

// Run works until ctx is done. It may be called once.
func (l *Link) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { l.read(ctx, l.conn.Read) })
	if s, ok := l.conn.(Splitter); ok {
		wg.Go(func() { l.read(ctx, s.ReadAnswer) })
	}
	l.work(ctx)
	_ = l.conn.Close()
	wg.Wait()
}

// work asks and announces when it is time to.
func (l *Link) work(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		l.mu.Lock()
		self := Self{MAC: *l.mac.Load(), V4: l.v4, V6: l.v6}
		announce, next := l.announcer.Due(self.MAC, now)
		ask, later := l.resolver.Due(&self, now)
		l.mu.Unlock()
		l.report()
		for i := range announce {
			switch m := &announce[i]; {
			case m.Sender.IsUnspecified():
				l.count.probed.Add(1)
			case m.Sender.Is6() || !m.Reply: // of the two by ARP one is counted
				l.count.announced.Add(1)
			}
		}
		l.count.asked.Add(uint64(len(ask)))
		for _, m := range append(announce, ask...) {
			l.send(&m)
		}
		wait := time.Hour
		if next = sooner(later, next); !next.IsZero() {
			wait = max(time.Until(next), time.Millisecond)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-l.kick:
		case <-timer.C:
		}
	}
}

// report tells what the resolver found.
func (l *Link) report() {
	l.tell.Lock()
	defer l.tell.Unlock()
	l.mu.Lock()
	changes, disputes := l.resolver.Changes(), l.resolver.Disputes()
	l.mu.Unlock()
	l.count.disputes.Add(uint64(len(disputes)))
	for _, n := range disputes {
		l.cfg.Disputed(n)
	}
	for _, n := range changes {
		l.count.changed.Add(1)
		if n.State == Failed {
			l.count.failures.Add(1)
		}
	}
	if len(changes) > 0 {
		l.cfg.Changed(changes)
	}
}

func (l *Link) send(m *Message) {
	b, err := m.Frame(l.cfg.VLAN)
	if err == nil && l.cfg.VLAN != 0 && l.cfg.TPID != 0 {
		binary.BigEndian.PutUint16(b[12:], l.cfg.TPID)
	}
	if err == nil {
		_, err = l.conn.Write(b)
	}
	if err != nil {
		l.count.errors.Add(1)
	}
}

func (l *Link) handle(b []byte) {
	m, err := Parse(b)
	if err != nil {
		l.count.malformed.Add(1)
		return
	}
	l.handling.Lock()
	defer l.handling.Unlock()
	mac := *l.mac.Load()
	if m.SenderMAC == mac || m.Source == mac || l.cfg.Ours(m.SenderMAC) {
		return
	}
	now := time.Now()
	answer, send, conflict := l.responder.Handle(&m, mac, now)
	switch {
	case send && !conflict && !l.answers.take(now):
		l.count.limited.Add(1)
	case send:
		if !conflict {
			l.count.answered.Add(1) // before it is sent: whoever has the answer finds it counted
		}
		l.send(&answer)
	}
	if conflict {
		l.count.conflicts.Add(1)
		l.tell.Lock()
		l.cfg.Conflict(m.Sender, m.SenderMAC)
		l.tell.Unlock()
		return
	}
	l.mu.Lock()
	learnt := l.resolver.Handle(&m, now)
	hurried := l.resolver.Hurried()
	l.mu.Unlock()
	if learnt {
		l.count.learnt.Add(1)
		l.report()
	}
	if hurried {
		l.wake()
	}
}
