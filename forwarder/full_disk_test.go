package forwarder_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/mounttest"
)

// fill writes a file until there is no room left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill %s: %v", path, err)
	}
	f.Close()
}

// TestStateNoRoom: an error of the start that is about the state says so, whatever it is, and
// leaves no file that a later process would take for the last state, nor one that takes up memory.
func TestStateNoRoom(t *testing.T) {
	mounttest.Tmpfs(t, 1<<20, func(base string) {
		dir := filepath.Join(base, "state")
		_, err := forwarder.New(forwarder.Config{Legs: []forwarder.Leg{{}}, Flows: 100_000, State: &forwarder.State{Dir: openDir(dir), Boot: [16]byte{1}}})
		if !errors.Is(err, forwarder.ErrState) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the error is %v", err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("files are left: %v", left)
		}
	})
}

// TestStateFullLater: where the file system fills up under a running engine it goes on: flows of
// new services and the first ones of IPv6 too. It says that nothing can be taken over, and nothing
// is; the names are written again once there is room.
func TestStateFullLater(t *testing.T) {
	mounttest.Tmpfs(t, 4<<20, func(base string) {
		dir, filler := filepath.Join(base, "state"), filepath.Join(base, "filler")
		a := newRig(t, keeping(dir, func(c *forwarder.Config) { c.Flows = 4096 }))
		a.now = second
		a.serve(service("TCP "+vip4+":80", "rr"), 1)
		fill(t, filler)
		for port := 1000; port < 1100; port++ { // until the last page of the file of names is full
			a.serve(service("TCP "+vip4+":"+strconv.Itoa(port), "rr"), 1)
		}
		if err := a.StateError(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("after services without room: %v", err)
		}
		b := newRig(t, keeping(crash(t, dir)))
		if got := b.Taken(); got.Flows+got.Templates > 0 {
			t.Errorf("taken over though not all is known: %+v", got)
		}
		a.where([]frame.Frame{talk4(2000, 1099).tcp(frame.SYN)})

		a.must(os.Remove(filler))
		a.wall += forwarder.EstimatePeriod
		a.must(a.Maintain())
		if err := a.StateError(); err != nil {
			t.Errorf("with room again: %v", err)
		}
		left := crash(t, dir)
		c := newRig(t, keeping(left, func(c *forwarder.Config) { c.Flows, c.State.Now = 4096, a.now }))
		if got := c.Taken(); got.Afresh != "" || got.Flows != 1 {
			t.Errorf("with room again: %+v, want one flow", got)
		}

		fill(t, filler)
		a.serve(service("TCP ["+vip6+"]:80", "rr"), 1)
		a.where([]frame.Frame{talk6(2000, 80).tcp(frame.SYN), talk4(2001, 80).tcp(frame.SYN), talk6(2000, 80).tcp(frame.ACK)})
		if err := a.StateError(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("after an IPv6 service without room: %v", err)
		}
		a.must(os.Remove(filler))
		a.wall += forwarder.EstimatePeriod
		a.must(a.Maintain())
		if err := a.StateError(); err == nil {
			t.Error("the IPv6 flows are not in the file, but are said to be kept")
		}
	})
}
