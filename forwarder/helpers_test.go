package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Who is on the wire in these tests. Frames are built by hand, so that a million of them can be;
// process_test.go has gopacket read them.
const (
	client4, client6 = "192.0.2.7", "2001:db8:1::7"
	vip4, vip6       = "203.0.113.10", "2001:db8:2::10"
	second           = int64(time.Second)
)

var (
	legMAC    = [2]frame.MAC{mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02")}
	routerMAC = mac("02:00:00:00:00:fe")
)

// serverMAC is the MAC of realserver number n.
func serverMAC(n int) frame.MAC { return frame.MAC{2, 0, 0, 0, 1, byte(n)} }

// server is the address of realserver number n.
func server(n int, v6 bool) netip.Addr {
	if v6 {
		return addr(fmt.Sprintf("fd00::%x", n))
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
}

// serverOf is the number of the realserver that a frame goes to, 0 if it goes to none.
func serverOf(f frame.Frame) int {
	if m := f.Dst(); m[4] == 1 {
		return int(m[5])
	}
	return 0
}

// A talk is a client and the virtual address that it talks to. Its methods build frames from the
// client.
type talk struct{ client, virtual netip.AddrPort }

// from parses the ends of a talk: "192.0.2.7:40000", "203.0.113.10:80".
func from(client, virtual string) talk {
	return talk{netip.MustParseAddrPort(client), netip.MustParseAddrPort(virtual)}
}

// talk4 and talk6 are the talks of one client from a port to a port of the VIP.
func talk4(cport, vport uint16) talk {
	return talk{netip.AddrPortFrom(addr(client4), cport), netip.AddrPortFrom(addr(vip4), vport)}
}

func talk6(cport, vport uint16) talk {
	return talk{netip.AddrPortFrom(addr(client6), cport), netip.AddrPortFrom(addr(vip6), vport)}
}

// back is the talk seen from the realserver.
func (k talk) back() talk { return talk{k.virtual, k.client} }

func (k talk) tcp(flags uint8, data ...byte) frame.Frame {
	b := append(make([]byte, 20), data...)
	k.ports(b)
	binary.BigEndian.PutUint32(b[4:], 1000)
	if flags&frame.ACK != 0 {
		binary.BigEndian.PutUint32(b[8:], 2000)
	}
	b[12], b[13] = 5<<4, flags
	binary.BigEndian.PutUint16(b[14:], 0xffff)
	return k.whole(frame.TCP, k.summed(frame.TCP, b, 16))
}

func (k talk) udp(data ...byte) frame.Frame {
	b := append(make([]byte, 8), data...)
	k.ports(b)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return k.whole(frame.UDP, k.summed(frame.UDP, b, 6))
}

// sctp leaves the CRC out: nothing on a director's way reads it.
func (k talk) sctp(chunk uint8) frame.Frame {
	b := make([]byte, 16)
	k.ports(b)
	b[12], b[15] = chunk, 4
	return k.whole(frame.SCTP, b)
}

// icmp is an ICMP or ICMPv6 message; rest is what follows its checksum.
func (k talk) icmp(typ, code uint8, rest ...byte) frame.Frame {
	b := append([]byte{typ, code, 0, 0}, rest...)
	proto := frame.ICMP
	if k.virtual.Addr().Is6() {
		proto = frame.ICMPv6
	}
	return k.whole(proto, k.summed(proto, b, 2))
}

// icmpError is what a router tells the VIP about a packet that went back to the client: the packet
// too big message, of which each family has one.
func (k talk) icmpError(proto frame.Proto) frame.Frame { return k.icmpErrorQuoting(proto, 20) }

// icmpErrorQuoting is one that quotes n bytes of the transport segment.
func (k talk) icmpErrorQuoting(proto frame.Proto, n int) frame.Frame {
	quote := make([]byte, n)
	k.back().ports(quote)
	rest := append([]byte{0, 0, 5, 0}, k.back().packet(proto, quote)...)
	if k.virtual.Addr().Is6() {
		return k.icmp(2, 0, rest...)
	}
	return k.icmp(3, 4, rest...)
}

func (k talk) ports(b []byte) {
	binary.BigEndian.PutUint16(b[0:], k.client.Port())
	binary.BigEndian.PutUint16(b[2:], k.virtual.Port())
}

// summed writes the checksum of a transport segment at b[at:].
func (k talk) summed(proto frame.Proto, b []byte, at int) []byte {
	s := uint32(0)
	if proto != frame.ICMP {
		s = uint32(len(b)) + uint32(proto) + uint32(^checksum(k.client.Addr().AsSlice(), 0)) + uint32(^checksum(k.virtual.Addr().AsSlice(), 0))
	}
	binary.BigEndian.PutUint16(b[at:], checksum(b, s))
	return b
}

// packet puts an IP header before a transport segment.
func (k talk) packet(proto frame.Proto, segment []byte) []byte {
	src, dst := k.client.Addr().AsSlice(), k.virtual.Addr().AsSlice()
	if k.virtual.Addr().Is6() {
		b := make([]byte, 40, 40+len(segment))
		b[0], b[6], b[7] = 6<<4, byte(proto), 61
		binary.BigEndian.PutUint16(b[4:], uint16(len(segment)))
		copy(b[8:], src)
		copy(b[24:], dst)
		return append(b, segment...)
	}
	b := make([]byte, 20, 20+len(segment))
	b[0], b[8], b[9] = 4<<4|5, 61, byte(proto)
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(segment)))
	copy(b[12:], src)
	copy(b[16:], dst)
	binary.BigEndian.PutUint16(b[10:], checksum(b, 0))
	return append(b, segment...)
}

// whole is a frame from the router to the director's first leg.
func (k talk) whole(proto frame.Proto, segment []byte) frame.Frame {
	b := make([]byte, 14, 14+60+len(segment))
	copy(b[0:], legMAC[0][:])
	copy(b[6:], routerMAC[:])
	b[12], b[13] = 0x08, 0x00
	if k.virtual.Addr().Is6() {
		b[12], b[13] = 0x86, 0xdd
	}
	b = append(b, k.packet(proto, segment)...)
	return frame.Frame{Buf: b, Wire: int32(len(b))}
}

// changed returns a copy of a frame with the bytes at off replaced and the checksum of an IPv4
// header put right.
func changed(f frame.Frame, off int, with ...byte) frame.Frame {
	f = clone(f)
	copy(f.Buf[off:], with)
	if f.Buf[12] == 0x08 && f.Buf[14] == 0x45 {
		h := f.Buf[14:34]
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], checksum(h, 0))
	}
	return f
}

func clone(f frame.Frame) frame.Frame {
	f.Buf = slices.Clone(f.Buf)
	return f
}

// failer is what the rig needs of a testing.TB or a rapid.T.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// A rig is an engine under test, with its time.
type rig struct {
	failer
	*forwarder.Engine
	now  int64         // of the frames
	wall time.Duration // of what is remembered between configurations
}

// newRig makes an engine with two legs, of which tests of one leg use the first. Close it.
func newRig(t failer, change ...func(*forwarder.Config)) *rig {
	t.Helper()
	r := &rig{failer: t}
	cfg := forwarder.Config{
		Legs:  []forwarder.Leg{{Name: "public", MAC: legMAC[0]}, {Name: "private", MAC: legMAC[1]}},
		Flows: 1024, Seed: [2]uint64{1, 2}, Exact: true, Settings: forwarder.DefaultSettings(),
		Clock: func() time.Time { return time.Unix(0, 0).Add(r.wall) },
	}
	for _, c := range change {
		c(&cfg)
	}
	e, err := forwarder.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = e
	return r
}

// start is newRig for a test, which closes it.
func start(t testing.TB, change ...func(*forwarder.Config)) *rig {
	t.Helper()
	r := newRig(t, change...)
	t.Cleanup(func() { r.must(r.Close()) })
	return r
}

func (r *rig) must(err error) {
	if err != nil {
		r.Helper()
		r.Fatal(err)
	}
}

// update runs a transaction that has to succeed.
func (r *rig) update(fn func(tx *forwarder.Tx) error) {
	r.Helper()
	r.must(r.Update(fn))
}

// set changes the settings.
func (r *rig) set(change func(s *forwarder.Settings)) {
	r.Helper()
	r.update(func(tx *forwarder.Tx) error {
		s := forwarder.DefaultSettings()
		change(&s)
		return tx.SetSettings(s)
	})
}

// service describes a virtual service by what ipvsadm would print: "TCP 203.0.113.10:80". Port 0 is
// all ports.
func service(text, sched string, change ...func(*forwarder.Service)) forwarder.Service {
	proto, rest, _ := strings.Cut(text, " ")
	at := netip.MustParseAddrPort(rest)
	m := forwarder.Match{Addr: at.Addr(), First: at.Port(), Last: at.Port()}
	if at.Port() == 0 {
		m.Last = 65535
	}
	m.Proto = map[string]frame.Proto{"TCP": frame.TCP, "UDP": frame.UDP, "SCTP": frame.SCTP}[proto]
	s := forwarder.Service{Matches: []forwarder.Match{m}, Scheduler: sched}
	for _, c := range change {
		c(&s)
	}
	return s
}

// dest is realserver number n of a service, of weight 1.
func dest(s forwarder.Service, n int, change ...func(*forwarder.Destination)) forwarder.Destination {
	m := s.Matches[0]
	d := forwarder.Destination{Addr: server(n, m.Addr.Is6()), Port: m.First, Weight: 1}
	for _, c := range change {
		c(&d)
	}
	return d
}

func weight(n int32) func(*forwarder.Destination) {
	return func(d *forwarder.Destination) { d.Weight = n }
}

// serve adds a service with realservers of these numbers, the first added last so that it heads the
// list, and tells where they are.
func (r *rig) serve(s forwarder.Service, servers ...int) forwarder.ServiceKey {
	r.Helper()
	r.update(func(tx *forwarder.Tx) error {
		if err := tx.AddService(s); err != nil {
			return err
		}
		for _, n := range slices.Backward(servers) {
			if err := tx.AddDestination(s.Key(), dest(s, n)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, n := range servers {
		r.must(r.SetNeighbour(0, server(n, s.Matches[0].Addr.Is6()), serverMAC(n)))
	}
	return s.Key()
}

// give has the first worker process frames, and returns copies of those that go out.
func (r *rig) give(frames ...frame.Frame) (out []frame.Frame) {
	batch := make([]frame.Frame, len(frames))
	for i := range frames {
		batch[i] = clone(frames[i])
		batch[i].Time = r.now
	}
	for _, f := range r.Worker(0).Process(batch, r.now) {
		out = append(out, clone(f))
	}
	return out
}

// after lets time pass.
func (r *rig) after(d time.Duration) {
	r.now += int64(d)
	r.wall += d
	r.Worker(0).Process(nil, r.now)
}

// verdict gives one frame and returns what became of it.
func (r *rig) verdict(f frame.Frame) forwarder.Verdict {
	r.Helper()
	before := r.Stats().Verdicts
	r.give(f)
	found := forwarder.NumVerdicts
	for v, n := range r.Stats().Verdicts {
		switch n - before[v] {
		case 0:
		case 1:
			if found != forwarder.NumVerdicts {
				r.Fatalf("one frame was counted as %v and as %v", found, forwarder.Verdict(v))
			}
			found = forwarder.Verdict(v)
		default:
			r.Fatalf("one frame was counted %d times as %v", n-before[v], forwarder.Verdict(v))
		}
	}
	return found
}

// expect gives one frame and fails if it does not become of it what was expected.
func (r *rig) expect(f frame.Frame, want forwarder.Verdict) {
	r.Helper()
	if got := r.verdict(f); got != want {
		r.Fatalf("the frame was found %q, want %q", got, want)
	}
}

// conns lists the connections of an engine, in no order that means anything.
func (r *rig) conns() (list []forwarder.ConnectionInfo) {
	r.Connections(func(c forwarder.ConnectionInfo) bool {
		list = append(list, c)
		return true
	})
	return list
}

// A sliceSource lends frames from a slice, and then ends or, if endless, has nothing more.
type sliceSource struct {
	frames []frame.Frame
	now    int64
}

func (s *sliceSource) Next(batch []frame.Frame) (n int, now int64, err error) {
	if len(s.frames) == 0 {
		return 0, s.now, io.EOF
	}
	n = copy(batch, s.frames)
	s.frames = s.frames[n:]
	return n, s.now, nil
}

// A sliceSink keeps what it is given, and says that it lost what lose tells it to.
type sliceSink struct {
	sent []frame.Frame
	lose forwarder.Lost
}

func (s *sliceSink) Send(batch []frame.Frame) forwarder.Lost {
	for _, f := range batch {
		s.sent = append(s.sent, clone(f))
	}
	return s.lose
}
