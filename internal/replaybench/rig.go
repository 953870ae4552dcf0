package replaybench

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Setup says how large a Rig is. Zero values are 1 service, 16 realservers, wrr, 1 worker.
type Setup struct {
	Flows       int // capacity of each worker's table
	Services    int // each has a VIP of its own, up to 10,000
	Realservers int // of each service
	Scheduler   string
	Workers     int
}

// A Rig is an engine with two legs: clients on the first, realservers on the second.
type Rig struct {
	*forwarder.Engine
	setup Setup
	now   []clock // by worker
}

// clock is what time a worker has, with room around it: two workers' must not be in one cache line.
type clock struct {
	ns int64
	_  [120]byte
}

var (
	legs = []forwarder.Leg{
		{Name: "clients", MAC: frame.MAC{2, 0, 0, 0, 0, 1}},
		{Name: "realservers", MAC: frame.MAC{2, 0, 0, 0, 0, 2}},
	}
	router = frame.MAC{2, 0, 0, 0, 0, 0xfe}
)

// vip is the address of service n.
func vip(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(n >> 8), byte(n)}) }

// NewRig makes an engine of that size. Close gives its memory back.
func NewRig(s Setup) (*Rig, error) {
	s.Services, s.Workers = max(s.Services, 1), max(s.Workers, 1)
	if s.Realservers == 0 {
		s.Realservers = 16
	}
	if s.Scheduler == "" {
		s.Scheduler = "wrr"
	}
	if s.Services > 10_000 || s.Services*s.Realservers > 1<<20 {
		return nil, fmt.Errorf("%d services of %d realservers: at most 10,000 services and a million realservers in all", s.Services, s.Realservers)
	}
	e, err := forwarder.New(forwarder.Config{
		Legs: legs, Workers: s.Workers, Flows: s.Flows, Seed: [2]uint64{1, 2}, Settings: forwarder.DefaultSettings(),
	})
	if err != nil {
		return nil, err
	}
	r := &Rig{Engine: e, setup: s, now: make([]clock, s.Workers)}
	if err := r.configure(); err != nil {
		e.Close() // memory of this process only
		return nil, err
	}
	return r, nil
}

// configure adds the services. Every service has the same realservers.
func (r *Rig) configure() error {
	var servers []forwarder.Destination
	for n := range r.setup.Realservers {
		d := forwarder.Destination{Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), Port: 80, Weight: 1, Leg: 1}
		servers = append(servers, d)
		mac := frame.MAC{2, 1, 0, byte(n >> 16), byte(n >> 8), byte(n)}
		if err := r.SetNeighbour(1, d.Addr, mac); err != nil {
			return err
		}
	}
	plan := forwarder.Plan{Settings: forwarder.DefaultSettings()}
	for n := range r.setup.Services {
		plan.Services = append(plan.Services, forwarder.ServicePlan{Service: forwarder.Service{
			Matches:   []forwarder.Match{{Addr: vip(n), Proto: frame.TCP, First: 80, Last: 80}},
			Scheduler: r.setup.Scheduler,
		}, Destinations: servers})
	}
	return r.Update(func(tx *forwarder.Tx) error { return tx.Apply(plan) })
}

// FrameLen is the length of a frame, the shortest there is on Ethernet: 60 bytes without the check
// sequence.
const FrameLen = 60

// slot is where a frame begins after the one before, as in a ring.
const slot = 64

// write makes b a TCP segment with these flags of flow n: of client n to the service n modulo their
// number. turn makes other flows of the same clients.
func (r *Rig) write(b []byte, n uint32, turn uint16, flags uint8) {
	copy(b[0:6], legs[0].MAC[:])
	copy(b[6:12], router[:])
	binary.BigEndian.PutUint16(b[12:], frame.EtherTypeIPv4)
	h := b[14:34:34]
	binary.BigEndian.PutUint64(h[0:], 0x4500_0028_0000_4000)
	binary.BigEndian.PutUint32(h[8:], 61<<24|uint32(frame.TCP)<<16)
	binary.BigEndian.PutUint32(h[12:], 100<<24+n)
	service := n % uint32(r.setup.Services)
	binary.BigEndian.PutUint32(h[16:], 203<<24|service)
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum>>16+sum&0xffff))
	tcp := b[34:54:54]
	binary.BigEndian.PutUint16(tcp[0:], 40000+turn)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[12], tcp[13] = 5<<4, flags
}

// Establish makes a flow of each of the first n clients with a SYN and an ACK. The table must have
// room for them.
func (r *Rig) Establish(worker int, n int) error {
	l := r.Lend(worker, func(i uint64) uint32 { return uint32(i / 2 % uint64(n)) })
	l.flags = func(i uint64) uint8 { return []uint8{frame.SYN, frame.ACK}[i%2] }
	l.Step = time.Microsecond
	for given := 0; given < 2*n; given += len(l.slots) {
		l.Fill()
		l.Process()
	}
	if got := r.Stats().Flows; got < n*999/1000 {
		return fmt.Errorf("the table of worker %d took only %d of %d flows", worker, got, n)
	}
	return nil
}
