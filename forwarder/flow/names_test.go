package flow

import (
	"slices"
	"testing"

	"shunt/api"
)

// The states by which connections can be chosen are those that there are.
func TestStateNames(t *testing.T) {
	names := slices.Concat(tcpNames[:], sctpNames[:], []string{"UDP", "ASSURED"})
	slices.Sort(names)
	names = slices.Compact(names)
	want := api.States()
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("there are %v, and api has %v", names, want)
	}
}
