package flow

import "testing"

func TestProbes(t *testing.T) {
	tab := newTable(t, MinFlows, nil)
	if p := tab.Probes(0, 10); p.Buckets != 10 || p.Mean() != 0 || p.Full != 0 {
		t.Errorf("an empty table: %+v", p)
	}
	var want Probes
	for n := range uint32(MinFlows) {
		k := key4(n)
		h := tab.Hash(&k)
		id := tab.Put(&k, h, 1000, false)
		if id == None {
			continue
		}
		if b1, _, _ := tab.where(h); uint64(id/bucketSlots) == b1 {
			want.First++
		} else {
			want.Second++
		}
	}
	all := tab.Probes(5, 1<<30) // from the middle on, and not more than there are
	for b := range tab.buckets {
		if tab.free(b) == 0 {
			want.Full++
		}
	}
	want.Buckets = tab.buckets
	if all != want || want.Second == 0 {
		t.Errorf("%+v, want %+v", all, want)
	}
	if m := all.Mean(); m <= 1 || m >= 2 {
		t.Errorf("mean %v", m)
	}
	k := Key{VIP: 1, Kind: TCP | Template, VirtualPort: 80}
	tab.Delete(0)
	if id := tab.Put(&k, tab.Hash(&k), 1000, true); id != None {
		before := tab.Probes(0, 1<<30)
		tab.Invalidate(id)
		if after := tab.Probes(0, 1<<30); after.First+after.Second != before.First+before.Second-1 {
			t.Errorf("a template that nobody can find is among %+v, before %+v", after, before)
		}
	} else {
		t.Error("no room for a template")
	}
}
