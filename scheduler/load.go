package scheduler

import "sync/atomic"

// Load is the current load of one destination: its active and inactive connections, counted as in
// IPVS, and the flags that exclude it from scheduling. All workers of a director share it. It lives
// as long as the destination, across configurations. All methods are safe for concurrent use.
//
// The rules follow ip_vs_bind_dest and ip_vs_unbind_dest in the kernel's
// net/netfilter/ipvs/ip_vs_conn.c.
type Load struct {
	conns atomic.Uint64 // active<<32 | inactive, so that both are read at once
	flags atomic.Uint32
	upper atomic.Int32 // ipvsadm -x, 0 for none
	lower atomic.Int32 // ipvsadm -y, 0 for none
	group *group       // to note changes in; nil if nobody cares
}

// changed notes that a scheduler may decide otherwise now.
func (l *Load) changed() {
	if l.group != nil && l.group.watched.Load() {
		l.group.version.Add(1)
	}
}

const (
	overloaded  = 1 << iota // the upper threshold was reached (IP_VS_DEST_F_OVERLOAD)
	unreachable             // nobody answers for its address
)

// Active returns the number of active connections (ActiveConn).
func (l *Load) Active() int32 { return int32(l.conns.Load() >> 32) }

// Inactive returns the number of inactive connections (InActConn).
func (l *Load) Inactive() int32 { return int32(uint32(l.conns.Load())) }

// Conns returns both numbers, read atomically.
func (l *Load) Conns() (active, inactive int32) {
	c := l.conns.Load()
	return int32(c >> 32), int32(uint32(c))
}

// Open counts a new connection as inactive, because its first state is not known yet. It sets the
// overload flag if the upper threshold is reached.
func (l *Load) Open() { l.open(1) }

// OpenActive combines Open and Activate.
func (l *Load) OpenActive() { l.open(1 << 32) }

func (l *Load) open(one uint64) {
	c := l.conns.Add(one)
	if upper := l.upper.Load(); upper != 0 && int32(c>>32)+int32(uint32(c)) >= upper {
		l.flags.Or(overloaded)
	}
	l.changed()
}

// Restore sets the numbers of connections of a destination taken over from another process. The
// overload flag is derived at the next SetThresholds.
func (l *Load) Restore(active, inactive int32) {
	l.conns.Store(uint64(uint32(active))<<32 | uint64(uint32(inactive)))
	l.changed()
}

// Recount sets the numbers of connections and derives the overload flag from them. The numbers must
// have been counted while no connection began or ended.
func (l *Load) Recount(active, inactive int32) {
	c := uint64(uint32(active))<<32 | uint64(uint32(inactive))
	l.conns.Store(c)
	if upper := l.upper.Load(); upper != 0 && active+inactive >= upper {
		l.flags.Or(overloaded)
	} else if l.Overloaded() {
		l.relieve(c)
	}
	l.changed()
}

// Activate moves a connection from the inactive to the active ones.
func (l *Load) Activate() {
	l.conns.Add(1<<32 - 1)
	l.changed()
}

// Deactivate moves a connection from the active to the inactive ones.
func (l *Load) Deactivate() {
	l.conns.Add(^uint64(1<<32-1) + 1)
	l.changed()
}

// Close removes a connection from the count. It clears the overload flag if the number of
// connections is below the lower threshold, or below three quarters of the upper threshold if there
// is no lower one.
func (l *Load) Close(active bool) {
	var c uint64
	if active {
		c = l.conns.Add(^uint64(1<<32) + 1)
	} else {
		c = l.conns.Add(^uint64(0))
	}
	if l.flags.Load()&overloaded != 0 {
		l.relieve(c)
	}
	l.changed()
}

// relieve clears the overload flag if few enough of the connections c are left.
func (l *Load) relieve(c uint64) {
	total := int64(int32(c>>32)) + int64(int32(uint32(c)))
	lower, upper := int64(l.lower.Load()), int64(l.upper.Load())
	if lower != 0 && total < lower || lower == 0 && (upper == 0 || total*4 < upper*3) {
		l.flags.And(^uint32(overloaded))
	}
}

// SetThresholds sets the upper threshold, at which the destination becomes overloaded, and the
// lower threshold, below which it becomes usable again. Both are numbers of connections; 0 is none.
// If a threshold changes, the overload flag is derived at once from the current connections, as in
// __ip_vs_update_dest of the kernel's ip_vs_ctl.c. At or above the upper threshold the flag is set.
// Below the lower threshold (three quarters of the upper one if there is none) it is cleared.
// Between the two it does not change.
func (l *Load) SetThresholds(upper, lower int32) {
	if l.upper.Swap(upper) == upper && l.lower.Load() == lower {
		return
	}
	l.lower.Store(lower)
	defer l.changed()
	active, inactive := l.Conns()
	total := active + inactive
	if lower == 0 {
		lower = upper - upper>>2
	}
	switch {
	case upper == 0:
		l.flags.And(^uint32(overloaded))
	case total >= upper:
		l.flags.Or(overloaded)
	case total < lower:
		l.flags.And(^uint32(overloaded))
	}
}

// Thresholds returns the upper and the lower threshold.
func (l *Load) Thresholds() (upper, lower int32) { return l.upper.Load(), l.lower.Load() }

// Overloaded reports whether the overload flag is set: the upper threshold was reached, and the
// number of connections has not fallen far enough since.
func (l *Load) Overloaded() bool { return l.flags.Load()&overloaded != 0 }

// SetUnreachable sets or clears the mark of a destination whose MAC cannot be resolved. No
// scheduler chooses a marked destination.
func (l *Load) SetUnreachable(yes bool) {
	if yes {
		l.flags.Or(unreachable)
	} else {
		l.flags.And(^uint32(unreachable))
	}
	l.changed()
}

// Unreachable reports whether the destination is marked as unreachable.
func (l *Load) Unreachable() bool { return l.flags.Load()&unreachable != 0 }

// Available reports whether the destination is neither overloaded nor unreachable. The weight is
// not considered.
func (l *Load) Available() bool { return l.flags.Load() == 0 }
