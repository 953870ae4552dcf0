package forwarder_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// TestBeside runs two engines side by side, of which one carries out every transaction beside its
// worker, as the other does only with large ones. Nothing may ever tell them apart.
func TestBeside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newRig(t), newRig(t)
		defer a.Close()
		defer b.Close()
		b.Beside()
		for n := range 4 {
			for _, r := range []*rig{a, b} {
				for _, v6 := range []bool{false, true} {
					r.must(r.SetNeighbour(0, server(n+1, v6), serverMAC(n+1)))
				}
			}
		}
		same := func(what string) {
			for _, r := range []*rig{a, b} {
				if err := r.CheckSnapshot(); err != nil {
					t.Fatalf("after %s: %v", what, err)
				}
			}
			if x, y := a.all(), b.all(); x != y {
				t.Fatalf("after %s, by the worker\n%s\nbeside it\n%s", what, x, y)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"transaction": func(t *rapid.T) {
				what, fn := drawTransaction(t)
				if x, y := a.Update(fn), b.Update(fn); fmt.Sprint(x) != fmt.Sprint(y) {
					t.Fatalf("%s: by the worker %v, beside it %v", what, x, y)
				}
				same(what)
			},
			"neighbours": func(t *rapid.T) {
				n, v6 := rapid.IntRange(1, 4).Draw(t, "realserver"), rapid.Bool().Draw(t, "IPv6")
				mac := rapid.SampledFrom([]frame.MAC{{}, serverMAC(n), serverMAC(n), serverMAC(n + 1)}).Draw(t, "MAC")
				for _, r := range []*rig{a, b} {
					r.must(r.SetNeighbour(0, server(n, v6), mac))
				}
				same("a neighbour")
			},
			"flows": func(t *rapid.T) {
				for range rapid.IntRange(1, 5).Draw(t, "number") {
					f := talk4(rapid.Uint16Range(1024, 1100).Draw(t, "client's port"), 80).tcp(frame.SYN)
					if x, y := a.give(f), b.give(f); unequal(x, y) != "" {
						t.Fatalf("a frame becomes %v by the worker, %v beside it", x, y)
					}
				}
				same("flows")
			},
			"time": func(t *rapid.T) {
				d := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "time")
				a.after(wholeSteps(d))
				b.after(wholeSteps(d))
			},
		})
	})
}

// A scheduler goes on where the one before it was, though it takes over only when it is asked, or
// after the transaction.
func TestBesideSchedulers(t *testing.T) {
	for _, name := range []string{"rr", "wrr", "lblc", "lblcr", "twos", "wlc"} {
		var goes [2]string
		for i := range goes {
			r := start(t)
			if i == 1 {
				r.Beside()
			}
			s := service("TCP "+vip4+":80", name)
			r.serve(s, 1, 2, 3)
			for n := range uint16(12) {
				if n%4 == 2 {
					r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), dest(s, 2, weight(int32(1+n/4)))) })
				}
				for _, f := range r.give(talk4(2000+n, 80).tcp(frame.SYN)) {
					goes[i] += fmt.Sprint(" ", serverOf(f))
				}
			}
		}
		if goes[0] != goes[1] {
			t.Errorf("%s: flows go to%s, and beside the worker to%s", name, goes[0], goes[1])
		}
	}
}

// torrent is new flows to all services in turns, and a Sink that looks where each batch goes.
type torrent struct {
	end   atomic.Bool
	n     int
	of    map[frame.MAC]int
	seen  [2]atomic.Int64 // batches that went to the realservers of a plan
	mixed atomic.Int64    // that went to those of both
	gaps  atomic.Int64    // of which a frame was lost
}

func (f *torrent) Next(b []frame.Frame) (int, int64, error) {
	if f.end.Load() {
		return 0, 0, io.EOF
	}
	for i := range b {
		f.n++
		client := netip.AddrFrom4([4]byte{100, byte(f.n >> 16), byte(f.n >> 8), byte(f.n)})
		k := talk{netip.AddrPortFrom(client, 40000), netip.AddrPortFrom(largeService(f.n % adopted).Matches[0].Addr, 80)}
		b[i] = k.tcp(frame.SYN)
	}
	return len(b), time.Now().UnixNano(), nil
}

func (f *torrent) Send(b []frame.Frame) forwarder.Lost {
	var of [2]int
	for i := range b {
		of[f.of[frame.MAC(b[i].Data()[:6])]]++
	}
	switch {
	case of[0] > 0 && of[1] > 0:
		f.mixed.Add(1)
	case of[0] > 0:
		f.seen[0].Add(1)
	default:
		f.seen[1].Add(1)
	}
	if len(b) != forwarder.BatchSize {
		f.gaps.Add(1)
	}
	return forwarder.Lost{}
}

// adopted is the number of services of a transaction that is carried out beside the workers.
const adopted = 200

// A worker that forwards sees a large transaction as a whole: while all services get other
// realservers again and again, each batch of new flows goes to those of before or to those of
// after, and every flow goes somewhere.
func TestAdoptAsOne(t *testing.T) {
	var plans [2]forwarder.Plan
	f := &torrent{of: map[frame.MAC]int{}}
	r := start(t, func(c *forwarder.Config) { c.Clock, c.Exact, c.Flows = time.Now, false, 1<<16 })
	for n := range plans {
		plans[n].Settings = forwarder.DefaultSettings()
		for i := range adopted {
			s := largeService(i)
			s.Scheduler = []string{"rr", "wrr", "wlc", "lblc"}[i%4]
			sp := forwarder.ServicePlan{Service: s}
			for j := range 6 {
				sp.Destinations = append(sp.Destinations, largeDest(2*i+n, j))
			}
			plans[n].Services = append(plans[n].Services, sp)
		}
		list := neighbours(&plans[n])
		for _, x := range list {
			if old, twice := f.of[x.MAC]; twice && old != n {
				t.Fatal("a realserver is in both plans")
			}
			f.of[x.MAC] = n
		}
		r.must(r.SetNeighbours(list))
	}
	apply := func(n int) { r.update(func(tx *forwarder.Tx) error { return tx.Apply(plans[n]) }) }
	apply(0)
	ended := make(chan error)
	go func() { ended <- r.Worker(0).Run(context.Background(), f, f) }()
	for n := 1; n <= 20; n++ {
		apply(n % 2)
		was := f.seen[n%2].Load()
		for until := time.Now().Add(time.Minute); f.seen[n%2].Load() == was && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
		}
		if f.seen[n%2].Load() == was {
			t.Fatal("no flow goes to the new realservers")
		}
	}
	f.end.Store(true)
	r.must(<-ended)
	if f.mixed.Load() > 0 || f.gaps.Load() > 0 {
		t.Errorf("%d and %d batches went to the realservers of one plan; %d to those of both; of %d some frames were lost: %v",
			f.seen[0].Load(), f.seen[1].Load(), f.mixed.Load(), f.gaps.Load(), r.Stats().Verdicts)
	}
}
