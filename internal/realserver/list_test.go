package realserver

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// A list that changed while it was told is asked for again; other errors are told, and so is one
// that never ends.
func TestWhole(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		interrupted int
		then, want  error
		asked       int
	}{{0, nil, nil, 1}, {3, nil, nil, 4}, {2, other, other, 3}, {1 << 20, nil, netlink.ErrDumpInterrupted, listTries}} {
		asked := 0
		got, err := whole(func() ([]int, error) {
			if asked++; asked <= c.interrupted {
				return []int{1}, netlink.ErrDumpInterrupted
			}
			return []int{1, 2}, c.then
		})
		if !errors.Is(err, c.want) || asked != c.asked || err == nil && len(got) != 2 {
			t.Errorf("%+v: %v, %v after %d questions", c, got, err, asked)
		}
	}
}
