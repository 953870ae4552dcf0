package wire

import (
	"errors"
	"testing"
)

// A forwarder that loses what exceeds its capacity is found to have it, within the last step.
func TestHighest(t *testing.T) {
	const full = 500_000
	for _, capacity := range []int{0, 20_000, 100_000, 249_999, 499_000, 500_000, 700_000} {
		tries := 0
		got, err := highest(func(rate int) (Flood, error) {
			tries++
			if rate == 0 {
				rate = full
			}
			passed := min(rate, capacity)
			return Flood{Offered: float64(rate), Forwarded: float64(passed), Sent: uint64(2 * rate), Got: uint64(2 * passed)}, nil
		})
		want := min(capacity, full)
		if err != nil || int(got) > want || int(got) < want-full>>losslessSteps-1 {
			t.Errorf("capacity %d: %.0f, %v", capacity, got, err)
		}
		if capacity >= full && tries != 1 || tries > 1+losslessSteps {
			t.Errorf("capacity %d: %d tries", capacity, tries)
		}
	}
	if _, err := highest(func(int) (Flood, error) { return Flood{}, errors.New("no network") }); err == nil {
		t.Error("an error is none")
	}
}
