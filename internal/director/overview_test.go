package director

import (
	"reflect"
	"testing"
	"time"

	"shunt/api"
	"shunt/arpd"
	"shunt/forwarder"
	"shunt/forwarder/ring"
)

// What the workers' rings have counted is added up by leg, and no counter of a leg is left out.
func TestRingCounters(t *testing.T) {
	worker := func(by uint64) ring.Stats {
		one := ring.LegStats{Leg: 1, Received: 1, Sent: 2, Dropped: 3, Oversize: 4, Truncated: 5, Damaged: 6, Slots: 7, InUse: 8, Lost: forwarder.Lost{Full: 9}}
		zero := ring.LegStats{Received: by}
		return ring.Stats{Legs: []ring.LegStats{one, zero}, Batches: by, Memory: int(by)}
	}
	legs := make([]api.Leg, 2)
	rings := ringCounters(legs, []ring.Stats{worker(10), worker(20)})
	if want := []api.RingCounters{{Batches: 10, Bytes: 10}, {Batches: 20, Bytes: 20}}; !reflect.DeepEqual(rings, want) {
		t.Errorf("rings %+v, want %+v", rings, want)
	}
	if want := (api.Leg{Received: 30}); legs[0] != want {
		t.Errorf("leg 0 is %+v, want %+v", legs[0], want)
	}
	if want := (api.Leg{Received: 2, Sent: 4, RingFull: 6, Oversize: 8, Truncated: 10, Damaged: 12, Slots: 14, InUse: 16, NotSent: 18}); legs[1] != want {
		t.Errorf("leg 1 is %+v, want %+v", legs[1], want)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[api.Leg]()) {
		if v := reflect.ValueOf(legs[1]).FieldByIndex(f.Index); f.Type.Kind() == reflect.Uint64 && v.IsZero() {
			t.Errorf("%s is not counted", f.Name)
		}
	}
}

// The names of states are those of arpd.
func TestNeighbourStates(t *testing.T) {
	for i, want := range api.NeighbourStates() {
		if got := arpd.State(i).String(); got != string(want) {
			t.Errorf("state %d is %q, and %q in the API", i, got, want)
		}
	}
	if n := len(api.NeighbourStates()); arpd.State(n-1) != arpd.Static {
		t.Errorf("there are %d states in the API", n)
	}
}

func TestLatency(t *testing.T) {
	if got := latency(nil); got.Count() != 0 {
		t.Errorf("without rings: %+v", got)
	}
	worker := func(a, b uint64, sum time.Duration) ring.Stats {
		return ring.Stats{Latency: ring.Histogram{Bounds: []time.Duration{time.Millisecond}, Counts: []uint64{a, b}, Sum: sum}}
	}
	got := latency([]ring.Stats{worker(1, 2, time.Second), worker(10, 20, 2*time.Second)})
	if want := (api.Latency{Bounds: []float64{0.001}, Counts: []uint64{11, 22}, Sum: 3}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
