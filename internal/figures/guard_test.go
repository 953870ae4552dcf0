package figures

import (
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
