package remote

import (
	"errors"

	"shunt/api"
	"shunt/internal/ipvsadm"
)

// A Source is a director in this process.
type Source interface {
	Table() api.Table
	Connections(fn func(api.Connection) bool)
}

// Snapshot is such a director as ipvsadm sees one: its services and counters as they are now. It cannot be changed by it.
func Snapshot(s Source) ipvsadm.Director { return &snapshot{s, s.Table()} }

type snapshot struct {
	source Source
	table  api.Table
}

func (d *snapshot) Info() (ipvsadm.Info, error) { return info(d.table.Capacity), nil }

func (d *snapshot) Timeouts() (ipvsadm.Timeouts, error) { return timeouts(&d.table), nil }

func (d *snapshot) Services() ([]ipvsadm.ServiceEntry, error) { return entries(&d.table), nil }

func (d *snapshot) Totals() (total, rate ipvsadm.Counts, err error) {
	total, rate = totals(entries(&d.table))
	return total, rate, nil
}

func (d *snapshot) Connections(fn func(ipvsadm.Connection) bool) error {
	d.source.Connections(func(c api.Connection) bool { return fn(connection(&c)) })
	return nil
}

func (d *snapshot) Apply([]ipvsadm.Change) error { return errors.ErrUnsupported }
