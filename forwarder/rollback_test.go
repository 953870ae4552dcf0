package forwarder_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// change is one step of a random transaction.
type change func(tx *forwarder.Tx) error

// The services among which random transactions choose: few, so that changes meet.
var randomServices = []string{"TCP " + vip4 + ":80", "TCP " + vip4 + ":0", "UDP " + vip4 + ":53", "TCP [" + vip6 + "]:80"}

func drawService(t *rapid.T) forwarder.Service {
	s := service(rapid.SampledFrom(randomServices).Draw(t, "service"), rapid.SampledFrom([]string{"rr", "wrr", "lc", "mh", "sh"}).Draw(t, "scheduler"))
	if s.Matches[0].First == 0 || rapid.Bool().Draw(t, "persistent") {
		s.Persistence = time.Minute
	}
	return s
}

func drawDest(t *rapid.T, s forwarder.Service) forwarder.Destination {
	return dest(s, rapid.IntRange(1, 4).Draw(t, "realserver"), func(d *forwarder.Destination) {
		d.Weight = rapid.Int32Range(0, 3).Draw(t, "weight")
		d.Upper = rapid.SampledFrom([]int32{0, 0, 2, 3}).Draw(t, "upper")
	})
}

// drawChange draws a step, which may well be one that fails.
func drawChange(t *rapid.T) (string, change) {
	s := drawService(t)
	d := drawDest(t, s)
	kind := rapid.SampledFrom([]string{"add service", "edit service", "delete service", "add", "add", "add", "edit", "delete",
		"settings", "flush", "apply"}).Draw(t, "change")
	return fmt.Sprintf("%s %v %v", kind, s.Key(), d.Addr), func(tx *forwarder.Tx) error {
		switch kind {
		case "add service":
			return tx.AddService(s)
		case "edit service":
			return tx.EditService(s)
		case "delete service":
			return tx.DeleteService(s.Key())
		case "add":
			return tx.AddDestination(s.Key(), d)
		case "edit":
			return tx.EditDestination(s.Key(), d)
		case "delete":
			return tx.DeleteDestination(s.Key(), d)
		case "settings":
			set := forwarder.DefaultSettings()
			set.SloppyTCP = d.Weight > 1
			set.ExpireNodestConn = d.Weight == 0
			return tx.SetSettings(set)
		case "flush":
			return tx.Flush()
		}
		return tx.Apply(forwarder.Plan{Services: []forwarder.ServicePlan{{Service: s, Destinations: []forwarder.Destination{d}}}, Settings: forwarder.DefaultSettings()})
	}
}

// drawTransaction draws some steps; most begin with ones that make a later failure have something
// to undo.
func drawTransaction(t *rapid.T) (string, func(tx *forwarder.Tx) error) {
	var names []string
	var steps []change
	for range rapid.IntRange(1, 5).Draw(t, "steps") {
		name, step := drawChange(t)
		names, steps = append(names, name), append(steps, step)
	}
	return strings.Join(names, "; "), func(tx *forwarder.Tx) error {
		for _, step := range steps {
			if err := step(tx); err != nil {
				return err
			}
		}
		return nil
	}
}

// all is what an engine shows of itself.
func (r *rig) all() string {
	var lines []string
	for _, c := range r.conns() {
		lines = append(lines, fmt.Sprintf("%+v", c))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%+v\n%+v\n%s", r.Services(), r.Settings(), strings.Join(lines, "\n"))
}

// TestRollback runs two engines side by side, of which one also suffers transactions that fail.
// Nothing may ever tell them apart: neither what they list, nor where they send the flows that
// come.
func TestRollback(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newRig(t), newRig(t)
		defer a.Close()
		defer b.Close()
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
				t.Fatalf("after %s the two differ:\n%s\nwithout failures:\n%s", what, x, y)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"both": func(t *rapid.T) {
				what, fn := drawTransaction(t)
				x, y := a.Update(fn), b.Update(fn)
				if fmt.Sprint(x) != fmt.Sprint(y) {
					t.Fatalf("%s: %v, and without failures before %v", what, x, y)
				}
				same(what)
			},
			"failing": func(t *rapid.T) {
				what, fn := drawTransaction(t)
				if err := a.Update(func(tx *forwarder.Tx) error { return errors.Join(fn(tx), errOnPurpose) }); !errors.Is(err, errOnPurpose) {
					t.Fatalf("%s succeeded: %v", what, err)
				}
				b.update(func(*forwarder.Tx) error { return nil }) // both look how long removed realservers have been idle
				same("the failure of " + what)
			},
			"flow": func(t *rapid.T) {
				cport := rapid.Uint16Range(1024, 1040).Draw(t, "client's port")
				f := rapid.SampledFrom([]frame.Frame{talk4(cport, 80).tcp(frame.SYN), talk4(cport, 22).tcp(frame.SYN), talk4(cport, 53).udp(),
					talk4(cport, 80).tcp(frame.ACK), talk4(cport, 80).tcp(frame.RST), talk6(cport, 80).tcp(frame.SYN)}).Draw(t, "frame")
				if x, y := a.give(f), b.give(f); unequal(x, y) != "" {
					t.Fatalf("a frame becomes %v, without failures %v", x, y)
				}
				same("a frame")
			},
			"time": func(t *rapid.T) {
				d := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "time")
				a.after(wholeSteps(d))
				b.after(wholeSteps(d))
			},
		})
	})
}

// TestRollbackOfOverload: a realserver that is overloaded stays so when a transaction fails that
// would have freed it.
func TestRollbackOfOverload(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr")
	key := r.serve(s, 1)
	set := func(upper int32, err error) error {
		return r.Update(func(tx *forwarder.Tx) error {
			return errors.Join(tx.EditDestination(key, dest(s, 1, func(d *forwarder.Destination) { d.Upper = upper })), err)
		})
	}
	r.must(set(2, nil))
	r.give(talk4(1, 80).tcp(frame.SYN), talk4(2, 80).tcp(frame.SYN))
	for _, upper := range []int32{0, 1, 9} {
		if err := set(upper, errOnPurpose); err == nil {
			t.Fatal("no error")
		}
		if d := r.one().Destinations[0]; !d.Overloaded {
			t.Fatalf("a failed change of the upper threshold to %d has freed the realserver", upper)
		}
		r.expect(talk4(3, 80).tcp(frame.SYN), forwarder.NoDestination)
	}
	r.must(set(9, nil))
	r.expect(talk4(3, 80).tcp(frame.SYN), forwarder.Forwarded)
}

// TestRollbackKeepsCycle: wrr begins its cycle anew with each change, and so must not see one that
// failed.
func TestRollbackKeepsCycle(t *testing.T) {
	s := service("TCP "+vip4+":80", "wrr")
	for name, change := range map[string]func(*forwarder.Tx) error{
		"edit":   func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), dest(s, 1, weight(9))) },
		"add":    func(tx *forwarder.Tx) error { return tx.AddDestination(s.Key(), dest(s, 4, weight(9))) },
		"delete": func(tx *forwarder.Tx) error { return tx.DeleteDestination(s.Key(), dest(s, 2)) },
		"other scheduler": func(tx *forwarder.Tx) error {
			other := s
			other.Scheduler = "lc"
			return tx.EditService(other)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := start(t), start(t)
			for _, r := range []*rig{a, b} {
				r.serve(s, 1, 2, 3)
				for n := range 3 {
					r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(s.Key(), dest(s, n+1, weight(int32(3*n+2)))) })
				}
			}
			for n := range 100 {
				if a.goes(flood(n)) != b.goes(flood(n)) {
					t.Fatalf("flow %d goes elsewhere after changes that failed", n)
				}
				if err := a.Update(func(tx *forwarder.Tx) error { return errors.Join(change(tx), errOnPurpose) }); !errors.Is(err, errOnPurpose) {
					t.Fatal(err)
				}
				for _, r := range []*rig{a, b} { // and a change elsewhere does not bring it to light
					r.must(r.SetNeighbour(0, server(9, false), serverMAC(n)))
				}
			}
		})
	}
}

// TestUnseenBeforeCommit: a transaction that is under way has no effect on the frames that come
// meanwhile, not even by thresholds, which realservers share with the datapath.
func TestUnseenBeforeCommit(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr")
	key := r.serve(s, 1)
	before := r.Services()
	r.update(func(tx *forwarder.Tx) error {
		if err := tx.EditDestination(key, dest(s, 1, func(d *forwarder.Destination) { d.Upper = 1 })); err != nil {
			return err
		}
		for n := range uint16(3) {
			r.expectRunning(talk4(1024+n, 80).tcp(frame.SYN))
		}
		return nil
	})
	if unequal(before, r.Services()) == "" {
		t.Fatal("the transaction did nothing")
	}
}

// expectRunning gives a frame that has to go on, without asking the engine's control plane, which a
// transaction holds.
func (r *rig) expectRunning(f frame.Frame) {
	r.Helper()
	if out := r.give(f); len(out) != 1 || serverOf(out[0]) == 0 {
		r.Fatalf("the frame becomes %v", out)
	}
}

// TestCommitFails: what only shows when all of a transaction is known, more realservers than a
// Maglev table has places, undoes it too, with all that other services went through.
func TestCommitFails(t *testing.T) {
	r := start(t)
	web := service("TCP "+vip4+":80", "rr")
	hash := service("TCP "+vip4+":81", "mh", func(s *forwarder.Service) { s.Options.TableSize = 251 })
	r.serve(web, 1, 2, 3)
	r.serve(hash, 1)
	r.give(talk4(1, 80).tcp(frame.SYN))
	before := r.all()
	err := r.Update(func(tx *forwarder.Tx) error {
		errs := []error{tx.DeleteDestination(web.Key(), dest(web, 1)), tx.AddDestination(web.Key(), dest(web, 4))}
		for n := range 251 {
			d := dest(hash, 1)
			d.Addr = server(2, false)
			for range n {
				d.Addr = d.Addr.Next()
			}
			errs = append(errs, tx.AddDestination(hash.Key(), d))
		}
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Fatalf("the error is %v", err)
	}
	if after := r.all(); after != before {
		t.Fatalf("was\n%s\nis\n%s", before, after)
	}
	for _, want := range []int{2, 3, 1} {
		if out := r.give(talk4(uint16(100+want), 80).tcp(frame.SYN)); len(out) != 1 || serverOf(out[0]) != want {
			t.Fatalf("the next flow goes %v, want to realserver %d", out, want)
		}
	}
	r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(web.Key(), dest(web, 4)) })
}
