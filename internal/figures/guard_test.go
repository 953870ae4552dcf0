package figures

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"shunt/api"
)

func TestGuardWarnings(t *testing.T) {
	now := time.Unix(10_000, 0)
	for _, c := range []struct {
		name  string
		guard *api.Guard
		want  []string
	}{
		{"off", nil, nil},
		{"well", &api.Guard{Tables: []string{"shunt_1_eth0"}}, nil},
		{"taken away long ago", &api.Guard{Restored: 3, Last: now.Add(-time.Hour)}, nil},
		{"taken away lately", &api.Guard{Restored: 3, Last: now.Add(-time.Minute), By: "nft (process 7)"}, []string{"The guard was taken away"}},
		{"missing", &api.Guard{Restored: 3, Last: now, Missing: "a table"}, []string{"The guard is missing"}},
		{"none", &api.Guard{Error: "this kernel has no nftables"}, []string{"There is no guard"}},
		{"own address", &api.Guard{Exposed: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, []string{"The VIP 192.0.2.1 is an address of this host"}},
	} {
		var got []string
		for _, w := range Warnings(&api.Overview{Now: now, Guard: c.guard}) {
			got = append(got, w.Title)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: the warnings are %q, not %q", c.name, got, c.want)
		}
	}
}

func TestNeighbourWarnings(t *testing.T) {
	now := time.Unix(10_000, 0)
	o := api.Overview{Now: now}
	for i := range 7 {
		o.Neighbours = append(o.Neighbours, api.Neighbour{Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Leg: "eth0", State: api.Failed, Since: now})
	}
	o.Neighbours = append(o.Neighbours, api.Neighbour{Address: netip.MustParseAddr("10.0.0.8"), State: api.Stale},
		api.Neighbour{Address: netip.MustParseAddr("10.0.0.9"), State: api.Resolved, Disputes: 1, Disputed: now.Add(-time.Minute)},
		api.Neighbour{Address: netip.MustParseAddr("10.0.0.10"), State: api.Resolved, Disputes: 1, Disputed: now.Add(-time.Hour)})
	var got []string
	for _, w := range Warnings(&o) {
		got = append(got, w.Title)
	}
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("Realserver 10.0.0.%d does not answer", i))
	}
	want = append(want, "Two hosts answer for 10.0.0.9", "2 more realservers do not answer")
	if !slices.Equal(got, want) {
		t.Errorf("the warnings are %q, not %q", got, want)
	}
}
