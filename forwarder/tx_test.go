package forwarder_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

var errOnPurpose = errors.New("on purpose")

// unequal compares what two engines, or one at two times, say of themselves.
func unequal(a, b any) string {
	return cmp.Diff(a, b, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }))
}

// one returns the only service of an engine.
func (r *rig) one() forwarder.ServiceInfo {
	r.Helper()
	list := r.Services()
	if len(list) != 1 {
		r.Fatalf("%d services, want 1", len(list))
	}
	return list[0]
}

// numbers are those of a service's realservers, in the order of the list.
func numbers(s forwarder.ServiceInfo) (n []int) {
	for _, d := range s.Destinations {
		b := d.Addr.AsSlice()
		n = append(n, int(b[len(b)-1]))
	}
	return n
}

// TestTransactions goes through what a transaction can do, and sees that it is done and nothing
// else.
func TestTransactions(t *testing.T) {
	r := start(t)
	web, dns := service("TCP "+vip4+":80", "wrr"), service("UDP "+vip4+":53", "rr")

	r.update(func(tx *forwarder.Tx) error { return errors.Join(tx.AddService(web), tx.AddService(dns)) })
	if s := r.Services(); len(s) != 2 || s[0].Key() != web.Key() || s[1].Key() != dns.Key() || len(s[0].Destinations) != 0 {
		t.Fatalf("after AddService: %+v", s)
	}
	r.update(func(tx *forwarder.Tx) error { return tx.DeleteService(dns.Key()) })
	r.update(func(tx *forwarder.Tx) error {
		return errors.Join(tx.AddDestination(web.Key(), dest(web, 1)), tx.AddDestination(web.Key(), dest(web, 2, weight(3))))
	})
	if s := r.one(); !slices.Equal(numbers(s), []int{2, 1}) || s.Destinations[0].Weight != 3 || !s.Destinations[0].Unreachable {
		t.Fatalf("after AddDestination: %+v", s)
	}
	edited := dest(web, 1, func(d *forwarder.Destination) { d.Weight, d.Upper, d.Lower, d.Leg = 7, 10, 5, 1 })
	r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(web.Key(), edited) })
	if s := r.one(); !slices.Equal(numbers(s), []int{2, 1}) || s.Destinations[1].Destination != edited {
		t.Fatalf("after EditDestination: %+v", s)
	}
	slow := service("TCP "+vip4+":80", "lc", func(s *forwarder.Service) { s.Persistence = 300 * 1e9 })
	r.update(func(tx *forwarder.Tx) error { return tx.EditService(slow) })
	if s := r.one(); unequal(s.Service, slow) != "" || len(s.Destinations) != 2 {
		t.Fatalf("after EditService: %+v", s)
	}
	r.update(func(tx *forwarder.Tx) error { return tx.DeleteDestination(web.Key(), dest(web, 2)) })
	if s := r.one(); !slices.Equal(numbers(s), []int{1}) {
		t.Fatalf("after DeleteDestination: %+v", s)
	}
	want := forwarder.Settings{SloppyTCP: true, Source: forwarder.SourceOwn}
	r.update(func(tx *forwarder.Tx) error { return tx.SetSettings(want) })
	if got := r.Settings(); got != want {
		t.Fatalf("after SetSettings: %+v", got)
	}
	r.update(func(tx *forwarder.Tx) error { return tx.Flush() })
	if s := r.Services(); len(s) != 0 {
		t.Fatalf("after Flush: %+v", s)
	}
	r.expect(talk4(40000, 80).tcp(frame.SYN), forwarder.NotOurs)
}

// TestOwnMatches: the caller's slices stay the caller's.
func TestOwnMatches(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr")
	key := r.serve(s, 1)
	s.Matches[0].Addr = addr("203.0.113.99")
	r.Services()[0].Matches[0].First = 99
	if got := r.one(); got.Key() != key {
		t.Fatalf("the service has become %v", got.Key())
	}
}

// TestEqualThresholds: both may be the same.
func TestEqualThresholds(t *testing.T) {
	r := start(t)
	s := service("TCP "+vip4+":80", "rr")
	key := r.serve(s, 1)
	d := dest(s, 1, func(d *forwarder.Destination) { d.Upper, d.Lower = 4, 4 })
	r.update(func(tx *forwarder.Tx) error { return tx.EditDestination(key, d) })
}

// TestEditMatches: a group may get other ports and addresses, and its flows go on.
func TestEditMatches(t *testing.T) {
	r := start(t)
	group := forwarder.Service{Mark: 7, Scheduler: "rr", Matches: []forwarder.Match{{Addr: addr(vip4), Proto: frame.TCP, First: 80, Last: 80}}}
	r.serve(group, 1)
	r.goesTo(talk4(40000, 80).tcp(frame.SYN), 1)
	group.Matches = []forwarder.Match{{Addr: addr(vip4), Proto: frame.TCP, First: 443, Last: 443}, {Addr: addr("203.0.113.11"), Proto: frame.TCP, First: 80, Last: 80}}
	r.update(func(tx *forwarder.Tx) error { return tx.EditService(group) })
	r.goesTo(talk4(40001, 443).tcp(frame.SYN), 1)
	r.goesTo(from(client4+":40002", "203.0.113.11:80").tcp(frame.SYN), 1)
	r.goesTo(talk4(40000, 80).tcp(frame.ACK), 1)
	r.expect(talk4(40003, 80).tcp(frame.SYN), forwarder.NoService)
}

// badTransactions are changes to a service with realservers 1 and 2 that have to fail, and the
// error.
var badTransactions = []struct {
	name string
	fn   func(tx *forwarder.Tx, s forwarder.Service) error
	want error
}{
	{"the caller's own error", func(*forwarder.Tx, forwarder.Service) error { return errOnPurpose }, errOnPurpose},
	{"add a service twice", func(tx *forwarder.Tx, s forwarder.Service) error { return tx.AddService(s) }, forwarder.ErrServiceExists},
	{"add a service without matches", addChanged(func(s *forwarder.Service) { s.Matches = nil }), forwarder.ErrInvalid},
	{"add a service at no address", addChanged(func(s *forwarder.Service) { s.Matches[0].Addr = netip.Addr{} }), forwarder.ErrInvalid},
	{"add a service at a group's address", addChanged(func(s *forwarder.Service) { s.Matches[0].Addr = addr("224.0.0.1") }), forwarder.ErrInvalid},
	{"add a service at 0.0.0.0", addChanged(func(s *forwarder.Service) { s.Matches[0].Addr = addr("0.0.0.0") }), forwarder.ErrInvalid},
	{"add a service of both families", addChanged(func(s *forwarder.Service) {
		s.Matches = append(s.Matches, forwarder.Match{Addr: addr(vip6), Proto: frame.TCP, First: 80, Last: 80})
	}), forwarder.ErrInvalid},
	{"add a realserver of the other family", addServer(func(d *forwarder.Destination) { d.Addr = server(9, true) }), forwarder.ErrInvalid},
	{"add a service of ICMP", addChanged(func(s *forwarder.Service) { s.Matches[0].Proto = frame.ICMP }), forwarder.ErrInvalid},
	{"add a service of ports 9 to 8", addChanged(func(s *forwarder.Service) { s.Matches[0].First, s.Matches[0].Last = 9, 8 }), forwarder.ErrInvalid},
	{"add a service of negative persistence", addChanged(func(s *forwarder.Service) { s.Persistence = -1 }), forwarder.ErrInvalid},
	{"add a service of an unknown scheduler", addChanged(func(s *forwarder.Service) { s.Scheduler = "best" }), scheduler.ErrUnknown},
	{"edit a service that is not", func(tx *forwarder.Tx, s forwarder.Service) error { return tx.EditService(elsewhere(s)) }, forwarder.ErrNoService},
	{"edit a service to an unknown scheduler", func(tx *forwarder.Tx, s forwarder.Service) error {
		s.Scheduler = "best"
		return tx.EditService(s)
	}, scheduler.ErrUnknown},
	{"delete a service that is not", func(tx *forwarder.Tx, s forwarder.Service) error {
		s = elsewhere(s)
		return tx.DeleteService(s.Key())
	}, forwarder.ErrNoService},
	{"add a realserver to a service that is not", func(tx *forwarder.Tx, s forwarder.Service) error {
		s = elsewhere(s)
		return tx.AddDestination(s.Key(), dest(s, 1))
	}, forwarder.ErrNoService},
	{"add a realserver twice", func(tx *forwarder.Tx, s forwarder.Service) error { return tx.AddDestination(s.Key(), dest(s, 1)) }, forwarder.ErrDestExists},
	{"add a realserver at no address", addServer(func(d *forwarder.Destination) { d.Addr = netip.Addr{} }), forwarder.ErrInvalid},
	{"add a realserver at a group's address", addServer(func(d *forwarder.Destination) { d.Addr = addr("224.0.0.1") }), forwarder.ErrInvalid},
	{"add a realserver of negative weight", addServer(weight(-1)), forwarder.ErrInvalid},
	{"add a realserver of weight 65536", addServer(weight(65536)), forwarder.ErrInvalid},
	{"add a realserver with thresholds the wrong way round", addServer(func(d *forwarder.Destination) { d.Upper, d.Lower = 5, 6 }), forwarder.ErrInvalid},
	{"add a realserver with a lower threshold only", addServer(func(d *forwarder.Destination) { d.Lower = 6 }), forwarder.ErrInvalid},
	{"add a realserver with a negative threshold", addServer(func(d *forwarder.Destination) { d.Upper = -6 }), forwarder.ErrInvalid},
	{"edit a realserver that is not", func(tx *forwarder.Tx, s forwarder.Service) error { return tx.EditDestination(s.Key(), dest(s, 3)) }, forwarder.ErrNoDest},
	{"edit a realserver to negative weight", func(tx *forwarder.Tx, s forwarder.Service) error {
		return tx.EditDestination(s.Key(), dest(s, 1, weight(-1)))
	}, forwarder.ErrInvalid},
	{"edit a realserver of a service that is not", func(tx *forwarder.Tx, s forwarder.Service) error {
		s = elsewhere(s)
		return tx.EditDestination(s.Key(), dest(s, 1))
	}, forwarder.ErrNoService},
	{"delete a realserver that is not", func(tx *forwarder.Tx, s forwarder.Service) error { return tx.DeleteDestination(s.Key(), dest(s, 3)) }, forwarder.ErrNoDest},
	{"delete a realserver of a service that is not", func(tx *forwarder.Tx, s forwarder.Service) error {
		s = elsewhere(s)
		return tx.DeleteDestination(s.Key(), dest(s, 1))
	}, forwarder.ErrNoService},
	{"apply a plan with an unknown scheduler", func(tx *forwarder.Tx, s forwarder.Service) error {
		other := elsewhere(s)
		other.Scheduler = "best"
		return tx.Apply(forwarder.Plan{Services: []forwarder.ServicePlan{{Service: s}, {Service: other}}})
	}, scheduler.ErrUnknown},
	{"apply a plan with a bad realserver", func(tx *forwarder.Tx, s forwarder.Service) error {
		return tx.Apply(forwarder.Plan{Services: []forwarder.ServicePlan{{Service: s, Destinations: []forwarder.Destination{dest(s, 5), dest(s, 1, weight(-2))}}}})
	}, forwarder.ErrInvalid},
}

// elsewhere is the service, at a port that none has.
func elsewhere(s forwarder.Service) forwarder.Service {
	s.Matches = slices.Clone(s.Matches)
	s.Matches[0].First, s.Matches[0].Last = 8080, 8080
	return s
}

func addChanged(change func(*forwarder.Service)) func(*forwarder.Tx, forwarder.Service) error {
	return func(tx *forwarder.Tx, s forwarder.Service) error {
		s = elsewhere(s)
		change(&s)
		return tx.AddService(s)
	}
}

func addServer(change func(*forwarder.Destination)) func(*forwarder.Tx, forwarder.Service) error {
	return func(tx *forwarder.Tx, s forwarder.Service) error {
		return tx.AddDestination(s.Key(), dest(s, 9, change))
	}
}

// TestFailedTransactions: each error is told and can be told apart, and everything is as it was
// before, though much else was done in the same transaction ahead of it.
func TestFailedTransactions(t *testing.T) {
	for _, c := range badTransactions {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			s := service("TCP "+vip4+":80", "rr")
			r.serve(s, 1, 2)
			r.give(talk4(40000, 80).tcp(frame.SYN)) // by realserver 1: 2 is next
			services, settings, conns := r.Services(), r.Settings(), r.conns()
			err := r.Update(func(tx *forwarder.Tx) error {
				if err := errors.Join(
					tx.AddService(service("UDP ["+vip6+"]:53", "mh")), tx.SetSettings(forwarder.Settings{DropEntry: 3}),
					tx.AddDestination(s.Key(), dest(s, 4)), tx.DeleteDestination(s.Key(), dest(s, 4)), tx.AddDestination(s.Key(), dest(s, 4, weight(9))),
					tx.EditDestination(s.Key(), dest(s, 1, weight(0))),
				); err != nil {
					t.Fatal(err)
				}
				return c.fn(tx, s)
			})
			if !errors.Is(err, c.want) {
				t.Fatalf("the error is %v, want %v", err, c.want)
			}
			if diff := unequal(services, r.Services()) + unequal(settings, r.Settings()) + unequal(conns, r.conns()); diff != "" {
				t.Fatalf("the transaction left something behind: %s", diff)
			}
			for _, want := range []int{2, 1, 2} {
				if out := r.give(talk4(uint16(41000+r.Stats().Flows), 80).tcp(frame.SYN)); len(out) != 1 || serverOf(out[0]) != want {
					t.Fatalf("the next flow goes %v, want to realserver %d", out, want)
				}
			}
			// And what failed does not stand in the way of what is to come.
			r.serve(service("TCP "+vip4+":8080", "rr"), 1, 9)
			r.serve(service("UDP ["+vip6+"]:53", "mh"), 1)
			r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(s.Key(), dest(s, 4)) })
		})
	}
}
