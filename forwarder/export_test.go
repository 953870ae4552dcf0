package forwarder

import (
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"time"

	"shunt/forwarder/frame"
)

// CheckSnapshot compares what the workers read, which was made step by step, with what would be
// made at one go.
func (c *Control) CheckSnapshot() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	want := &snapshot{services: make([]service, len(c.byID)), dests: make([]dest, len(c.dests)), vipAddrs: c.vipAddrs}
	for id, svc := range c.byID {
		c.fillService(&want.services[id], svc)
	}
	for id, d := range c.dests {
		c.fillDest(&want.dests[id], d)
	}
	want.guard = newMACSet()
	for _, l := range c.legs {
		want.guard.add(l.MAC)
	}
	for _, d := range c.dests {
		if d != nil && !d.hop.mac.IsZero() {
			want.guard.add(d.hop.mac)
		}
	}
	got := *c.workers[0].snap
	got.dests, got.guard.slots = slices.Clone(got.dests), slices.Clone(got.guard.slots)
	got.services, got.dests = grow(got.services, len(c.byID)), grow(got.dests, len(c.dests)) // ids that a failed transaction took and gave back
	c.fillTables(want)
	for _, id := range c.touchedDests { // were forgotten while a transaction failed
		got.dests[id] = want.dests[id]
	}
	for _, m := range c.touchedMACs {
		if c.macs[m] == 0 {
			got.guard.remove(m)
		}
	}
	for len(got.ports.start) < len(want.ports.start) { // likewise
		got.ports.start = append(slices.Clip(got.ports.start), uint32(len(got.ports.spans)))
	}
	for _, x := range []struct {
		what      string
		got, want any
	}{
		{"services", fmt.Sprint(got.services), fmt.Sprint(want.services)}, {"destinations", fmt.Sprint(got.dests), fmt.Sprint(want.dests)}, {"VIPs", got.vips.sorted(), want.vips.sorted()},
		{"ports", fmt.Sprint(got.ports), fmt.Sprint(want.ports)}, {"guard", got.guard.sorted(), want.guard.sorted()},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			return fmt.Errorf("%s of the snapshot are\n%+v\nand should be\n%+v", x.what, x.got, x.want)
		}
	}
	return nil
}

func (t *vipTable) sorted() map[vipSlot]bool {
	out := map[vipSlot]bool{}
	for _, s := range t.slots {
		out[s] = true
	}
	for _, s := range t.four {
		out[vipSlot{frame.AddrFrom4(uint32(s >> 32)), uint32(s)}] = true
	}
	return out
}

func (s *macSet) sorted() map[uint64]bool {
	out := map[uint64]bool{}
	for _, m := range s.slots {
		out[m] = true
	}
	return out
}

// NamesChecksum is the checksum of a record.
func NamesChecksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// ParseNames reads a file of names and uses what it says.
func ParseNames(b []byte) {
	n, _, err := parseNames(b)
	if err != nil {
		return
	}
	s := &state{names: n, tally: make([]carried, len(n.dests)), zeros: &counters{}}
	c := newControl(nil, nil, Settings{}, nil)
	c.clock = func() (t time.Time) { return }
	_ = s.restore(c)
}

func grow[T any](list []T, n int) []T {
	if n <= len(list) {
		return list
	}
	return append(list, make([]T, n-len(list))...)
}

// Beside has every transaction, however small, be carried out beside the workers.
func (c *Control) Beside() { c.beside = true }

// Flows is how many entries the worker's table has.
func (w *Worker) Flows() (n int) {
	w.Do(func() { n = w.table.Len() })
	return n
}
