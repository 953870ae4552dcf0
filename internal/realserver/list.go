package realserver

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// listTries bounds how often a list is asked for that changes while the kernel tells it.
const listTries = 100

// whole asks the kernel for a list until nothing has changed while it was told: what was added last
// may still be on its way into the kernel's tables, and of a host with many changes every list may
// be interrupted now and then.
func whole[T any](list func() ([]T, error)) (out []T, err error) {
	for range listTries {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}
