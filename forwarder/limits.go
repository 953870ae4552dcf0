package forwarder

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
)

// ErrRange is what errors about numbers that are out of range wrap. It is an ErrInvalid.
var ErrRange = fmt.Errorf("out of range: %w", ErrInvalid)

// A Range is the numbers that a setting may have, both ends included. All doors check with the same
// ones: the configuration file, the control socket, ipvsadm, and the engine itself.
type Range struct{ Low, High int64 }

// Check returns an error about the setting called name if n is not in the range.
func (r Range) Check(name string, n int64) error {
	if n < r.Low || n > r.High {
		return &RangeError{name, fmt.Sprint(n), fmt.Sprint(r.Low), fmt.Sprint(r.High)}
	}
	return nil
}

// A Span is the times that a setting may have, both ends included.
type Span struct{ Low, High time.Duration }

// Check returns an error about the setting called name if d is not in the span.
func (s Span) Check(name string, d time.Duration) error {
	if d < s.Low || d > s.High {
		return &RangeError{name, d.String(), s.Low.String(), s.High.String()}
	}
	return nil
}

// Seconds makes a time of a number of seconds, to be checked by a Span. A number that is too large
// for a time, or none, gives the longest time; one that is not 0 does not give 0.
func Seconds(f float64) time.Duration {
	switch ns := f * float64(time.Second); {
	case !(ns < math.MaxInt64):
		return math.MaxInt64
	case ns <= math.MinInt64:
		return math.MinInt64
	case ns > 0:
		return max(time.Duration(ns), 1)
	case ns < 0:
		return min(time.Duration(ns), -1)
	}
	return 0
}

// RangeError is an error about a number or a time that is out of its range. It wraps ErrRange.
type RangeError struct{ Name, Value, Low, High string }

func (e *RangeError) Error() string {
	return fmt.Sprintf("%s is %s: it must be from %s to %s", e.Name, e.Value, e.Low, e.High)
}

// Unwrap has errors.Is find ErrRange and ErrInvalid.
func (e *RangeError) Unwrap() error { return ErrRange }

const longest = 31 * 24 * time.Hour // ipvsadm's bound

// The ranges of numbers. Where a setting is optional, 0 stands for its default besides.
var (
	Weights       = Range{0, 65535}
	Thresholds    = Range{0, math.MaxInt32}
	Marks         = Range{1, math.MaxUint32}
	Masks4        = Range{1, 32} // of persistence
	Masks6        = Range{1, 128}
	DropModes     = Range{0, 3} // of DropEntry, DropPacket and SecureTCP
	ReuseModes    = Range{0, 3} // of ConnReuseMode
	AmDroprates   = Range{1, 1_000_000}
	Timeouts      = Span{time.Second, longest}
	Persistences  = Span{time.Second, longest}
	Expirations   = Span{time.Second, longest} // of lblc and lblcr
	SlowStarts    = Span{0, time.Hour}
	DrainPatience = Span{0, 24 * time.Hour}
)

// Check refuses settings that make no sense. The error wraps ErrInvalid.
func (s *Settings) Check() error {
	return cmp.Or(
		ReuseModes.Check("conn_reuse_mode", int64(s.ConnReuseMode)),
		DropModes.Check("drop_entry", int64(s.DropEntry)),
		DropModes.Check("drop_packet", int64(s.DropPacket)),
		DropModes.Check("secure_tcp", int64(s.SecureTCP)),
		unlessZero(AmDroprates.Check("am_droprate", int64(s.AmDroprate)), s.AmDroprate == 0),
		unlessZero(Timeouts.Check("timeouts.tcp", s.TCPTimeout), s.TCPTimeout == 0),
		unlessZero(Timeouts.Check("timeouts.tcpfin", s.TCPFinTimeout), s.TCPFinTimeout == 0),
		unlessZero(Timeouts.Check("timeouts.udp", s.UDPTimeout), s.UDPTimeout == 0),
	)
}

func unlessZero(err error, zero bool) error {
	if zero {
		return nil
	}
	return err
}

// checkNumbers refuses numbers of a service that are out of range.
func (s *Service) checkNumbers() error {
	masks := Masks4
	if s.V6 || len(s.Matches) > 0 && s.Matches[0].Addr.Is6() {
		masks = Masks6
	}
	return cmp.Or(
		unlessZero(Persistences.Check("persistence", s.Persistence), s.Persistence == 0),
		unlessZero(masks.Check("persistence_mask", int64(s.MaskBits)), s.MaskBits == 0),
		SlowStarts.Check("slow_start", s.SlowStart),
	)
}

// checkNumbers refuses numbers of a destination that are out of range.
func (d *Destination) checkNumbers() error {
	return cmp.Or(
		Weights.Check("weight", int64(d.Weight)),
		thresholds(Thresholds.Check("the upper threshold", int64(d.Upper))),
		thresholds(Thresholds.Check("the lower threshold", int64(d.Lower))),
		DrainPatience.Check("drain", d.Drain),
	)
}

func thresholds(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", err, ErrThresholds)
}

// Prune removes from a plan what Tx.Apply would refuse: services and destinations with values that
// make no sense. Such settings are replaced by the given ones. It returns an error for each thing,
// in the plan's order.
func (p *Plan) Prune(settings Settings) (removed []error) {
	if err := p.Settings.Check(); err != nil {
		removed = append(removed, fmt.Errorf("settings: %w", err))
		p.Settings = settings
	}
	p.Services = slices.DeleteFunc(p.Services, func(s ServicePlan) bool {
		err := checkService(&s.Service)
		if err != nil {
			removed = append(removed, err)
		}
		return err != nil
	})
	for i := range p.Services {
		s := &p.Services[i]
		s.Destinations = slices.DeleteFunc(s.Destinations, func(d Destination) bool {
			err := checkDest(s.Key(), &s.Service, d)
			if err != nil {
				removed = append(removed, err)
			}
			return err != nil
		})
	}
	return removed
}

// CheckAddress refuses what no host on a network can have: loopback, multicast, broadcast and
// unspecified addresses, IPv4 written as IPv6, and addresses with a zone. It is for VIPs and
// realservers. The error wraps ErrInvalid.
func CheckAddress(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("no address: %w", ErrInvalid)
	case a.Zone() != "":
		return fmt.Errorf("%s: an address with a zone is valid on one link only: %w", a.WithZone(""), ErrInvalid)
	case a.Is4In6():
		return fmt.Errorf("%s: write the IPv4 address as such, %s: %w", a, a.Unmap(), ErrInvalid)
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is not an address that a host on a network can have: %w", a, ErrInvalid)
	}
	return nil
}
