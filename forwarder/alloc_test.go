package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// A reel gives the same batch again and again as it came, though Process overwrites MACs and turns
// pings into replies.
type reel struct {
	batch []frame.Frame
	work  []frame.Frame // what is given
}

func newReel(frames ...frame.Frame) *reel {
	r := &reel{}
	for _, f := range frames {
		r.batch = append(r.batch, clone(f))
		r.work = append(r.work, clone(f))
	}
	return r
}

// rewind returns the batch as it came.
func (r *reel) rewind() []frame.Frame {
	for i, f := range r.batch {
		copy(r.work[i].Buf, f.Buf)
		f.Buf = r.work[i].Buf
		r.work[i] = f
	}
	return r.work
}

// renumber gives frame i, of IPv4, another client: number n of some millions.
func (r *reel) renumber(i int, n uint32) {
	b := r.batch[i].Buf
	binary.BigEndian.PutUint32(b[26:], 10<<24|1<<16|n>>14)
	binary.BigEndian.PutUint16(b[34:], uint16(1024+n&(1<<14-1)))
	b[24], b[25] = 0, 0
	binary.BigEndian.PutUint16(b[24:], checksum(b[14:34], 0))
}

// noAllocs fails if processing the reel allocates. prepare is called before each batch, with a
// number that grows.
func noAllocs(t *testing.T, r *rig, frames *reel, want forwarder.Verdict, prepare func(n uint32)) {
	t.Helper()
	before := r.Stats().Verdicts[want]
	w, n, batches := r.Worker(0), uint32(0), uint64(0)
	if got := testing.AllocsPerRun(100, func() {
		if prepare != nil {
			prepare(n)
		}
		n++
		batches++
		r.now += int64(10 * time.Millisecond)
		w.Process(frames.rewind(), r.now)
	}); got != 0 {
		t.Errorf("%v allocations for a batch", got)
	}
	if got := r.Stats().Verdicts[want] - before; got != batches*uint64(len(frames.batch)) {
		t.Errorf("only %d of %d frames were %q", got, batches*uint64(len(frames.batch)), want)
	}
}

// TestProcessAllocatesNothing for whatever kind of frame comes.
func TestProcessAllocatesNothing(t *testing.T) {
	for name, frames := range traffic() {
		t.Run("known flows/"+name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			frames = frames[:len(frames)-1] // without the last, which may close the flow
			r.give(frames...)
			noAllocs(t, r, newReel(frames...), forwarder.Forwarded, nil)
		})
	}
	for _, c := range verdictTable() {
		if c.want == forwarder.Forwarded || c.want == forwarder.TableFull {
			continue // other tests here have those
		}
		t.Run(fmt.Sprintf("%v/%s", c.want, c.what), func(t *testing.T) {
			r := start(t)
			someServices(r)
			if c.before != nil {
				c.before(r)
			}
			noAllocs(t, r, newReel(c.frame), c.want, nil)
		})
	}
}

// newFlows is a batch of SYNs of which each time each opens another flow.
func newFlows(vport uint16) (*reel, func(n uint32)) {
	var frames []frame.Frame
	for range 16 {
		frames = append(frames, talk4(1, vport).tcp(frame.SYN))
	}
	r := newReel(frames...)
	return r, func(n uint32) {
		for i := range r.batch {
			r.renumber(i, n*16+uint32(i))
		}
	}
}

// TestNewFlowsAllocateNothing by whichever scheduler. lblcr allocates when it sees a VIP for the
// first time or a VIP's set of realservers grows, so it is warmed up until all are in it.
func TestNewFlowsAllocateNothing(t *testing.T) {
	for _, name := range scheduler.Names() {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(c *forwarder.Config) { c.Flows = 65536 })
			r.serve(service("TCP "+vip4+":80", name), 1, 2, 3, 4)
			frames, next := newFlows(80)
			switch name {
			case "ovf": // which stops when each has as many connections as its weight
				heavy(r, 65535)
			case "lblcr":
				for n := range uint32(100) {
					next(1<<16 + n)
					r.give(frames.rewind()...)
				}
			}
			noAllocs(t, r, frames, forwarder.Forwarded, next)
		})
	}
}

// heavy sets the weight of all realservers.
func heavy(r *rig, weight int32) {
	for _, s := range r.Services() {
		for _, d := range s.Destinations {
			d.Weight = weight
			r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), d.Destination) })
		}
	}
}

// TestRareWaysAllocateNothing: persistence, floods, flows that end or begin again.
func TestRareWaysAllocateNothing(t *testing.T) {
	persistent := func(s *forwarder.Service) { s.Persistence = 5 * time.Minute }
	small := func(c *forwarder.Config) { c.Flows = 1024 }
	for _, c := range []struct {
		name   string
		change func(*forwarder.Service)
		set    func(*forwarder.Settings)
		config func(*forwarder.Config)
		want   forwarder.Verdict
	}{
		{name: "persistence", change: persistent},
		{name: "persistence of networks", change: func(s *forwarder.Service) { s.Persistence, s.MaskBits = time.Minute, 24 }},
		{name: "the table is full, others end for the new", config: small},
		{name: "the table is full, templates too", config: small, change: persistent},
		{name: "drop_entry and secure_tcp", set: func(s *forwarder.Settings) { s.DropEntry, s.SecureTCP = 3, 3 }},
		{name: "flows end meanwhile", config: func(c *forwarder.Config) { c.Exact = false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, func(cfg *forwarder.Config) {
				cfg.Flows = 65536
				if c.config != nil {
					c.config(cfg)
				}
			})
			s := service("TCP "+vip4+":80", "rr")
			if c.change != nil {
				c.change(&s)
			}
			r.serve(s, 1, 2, 3)
			if c.set != nil {
				r.set(c.set)
			}
			frames, next := newFlows(80)
			noAllocs(t, r, frames, c.want, func(n uint32) {
				if n%10 == 9 {
					r.now += 30 * second // some flows end
				}
				next(n)
			})
		})
	}

	t.Run("one packet scheduling", func(t *testing.T) {
		r := start(t)
		r.serve(service("UDP "+vip4+":53", "wlc", func(s *forwarder.Service) { s.OnePacket = true }), 1, 2)
		noAllocs(t, r, newReel(talk4(1, 53).udp(), talk4(2, 53).udp()), forwarder.Forwarded, nil)
	})
	for name, k := range map[string]talk{"IPv4": talk4(40000, 80), "IPv6": talk6(40000, 80)} {
		problem := k.icmpError(frame.TCP)
		t.Run("an ICMP error, "+name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			r.give(k.tcp(frame.SYN))
			noAllocs(t, r, newReel(problem, problem), forwarder.Forwarded, nil)
		})
		t.Run("an ICMP error by hash, "+name, func(t *testing.T) {
			r := start(t)
			r.serve(service("TCP "+k.virtual.String(), "mh"), 1, 2)
			noAllocs(t, r, newReel(problem, problem), forwarder.Forwarded, nil)
		})
		t.Run("an ICMP error that makes a flow, "+name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			r.set(func(s *forwarder.Settings) { s.ScheduleICMP = true })
			noAllocs(t, r, newReel(problem), forwarder.Forwarded, nil)
		})
		t.Run("a packet above the MTU, "+name, func(t *testing.T) {
			r := start(t)
			someServices(r)
			limited(1300)(r)
			r.give(k.tcp(frame.SYN))
			noAllocs(t, r, newReel(df4(k.tcp(frame.ACK, make([]byte, 1300)...))), forwarder.FragNeeded, nil)
		})
	}
	t.Run("a client begins again", func(t *testing.T) {
		r := start(t)
		r.serve(service("TCP "+vip4+":80", "wrr"), 1, 2)
		k := talk4(40000, 80)
		noAllocs(t, r, newReel(k.tcp(frame.SYN), k.tcp(frame.ACK), k.tcp(frame.RST)), forwarder.Forwarded, nil)
	})
	t.Run("a gone realserver's flows move", func(t *testing.T) {
		r := start(t)
		someServices(r)
		r.set(func(s *forwarder.Settings) { s.Gone = forwarder.GoneReschedule })
		var flows []frame.Frame
		for n := range uint16(64) {
			flows = append(flows, talk4(1024+n, 80).tcp(frame.SYN))
		}
		r.give(flows...)
		removeServer1(r)
		noAllocs(t, r, newReel(flows...), forwarder.Forwarded, nil)
	})
}
