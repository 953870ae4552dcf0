package ring

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

func TestClose(t *testing.T) {
	w := newLab(t, 1)[0]
	batch := make([]frame.Frame, 8)
	for _, p := range []Preset{Balanced, Latency, Powersave} {
		e := open(t, Config{Legs: []LegConfig{w.leg(0)}, Busy: p}, vip4)
		w.send(nil, w.frame(datagram(vip4, 10)))
		next(t, e, 1)
		closed := make(chan error)
		go func() {
			time.Sleep(5 * time.Millisecond)
			closed <- e.Close()
		}()
		var err error
		eventually(t, "Next ends", func() bool {
			_, _, err = e.Next(batch)
			return err != nil
		})
		if !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: Next: %v", p, err)
		}
		if err := <-closed; err != nil {
			t.Errorf("%v: Close: %v", p, err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("%v: Close again: %v", p, err)
		}
		if _, _, err := e.Next(batch); !errors.Is(err, ErrClosed) {
			t.Errorf("%v: Next again: %v", p, err)
		}
		if err := e.SetVIPs([]netip.Addr{vip4}); !errors.Is(err, ErrClosed) {
			t.Errorf("%v: SetVIPs: %v", p, err)
		}
		e.Wake()
		// The numbers of the sockets may be those of other files by now.
		if lost := e.Send([]frame.Frame{{Buf: etherIP(datagram(vip4, 1)), Out: 0}}); lost.Down != 1 || lost.Total() != 1 {
			t.Errorf("%v: Send: %+v", p, lost)
		}
		if s := e.Stats(); s.Legs[0].Received != 1 || s.Legs[0].Slots == 0 || s.Memory == 0 {
			t.Errorf("%v: %+v", p, s)
		}
	}
}

// Close while frames are lent: they stay as they are until the next call of Next, and can still be
// sent.
func TestCloseWhileLent(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	data := w.frame(datagram(vip4, 100))
	w.send(nil, data)
	eventually(t, "the frame is in the ring", func() bool { return e.Stats().Legs[0].InUse == 1 })
	batch := make([]frame.Frame, 8)
	n, _, err := e.Next(batch)
	if n != 1 || err != nil {
		t.Fatalf("Next: %d, %v", n, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	w.send(nil, data)
	same(t, "lent", batch[0].Data(), data)
	batch[0].Out = 0
	if lost := e.Send(batch[:1]); lost.Total() != 0 {
		t.Errorf("lost %+v", lost)
	}
	same(t, "sent", w.recv().data, data)
	if n, _, err := e.Next(batch); n != 0 || !errors.Is(err, ErrClosed) {
		t.Errorf("Next: %d, %v", n, err)
	}
}

// Without an owner Close releases all itself.
func TestCloseFresh(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if !e.res.closed {
		t.Error("the resources are not released")
	}
	if _, _, err := e.Next(make([]frame.Frame, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Next: %v", err)
	}
	if lost := e.Send(make([]frame.Frame, 3)); lost.Down != 3 {
		t.Errorf("Send: %+v", lost)
	}
	e.Stats()
}

// sockets counts the open sockets and events of this process.
func sockets(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && (strings.HasPrefix(to, "socket:") || strings.Contains(to, "eventfd")) {
			n++
		}
	}
	return n
}

// Nothing stays open: not after a failure, not after the end, and not where the owner never comes
// back.
func TestRelease(t *testing.T) {
	w := newLab(t, 1)[0]
	before := sockets(t)
	for range 3 {
		if e, err := Open(Config{Legs: []LegConfig{w.leg(0), {Leg: 1, Name: "nosuch"}}}); e != nil || err == nil {
			t.Fatalf("%v, %v", e, err)
		}
	}
	if n := sockets(t); n != before {
		t.Errorf("%d files after Open failed, want %d", n, before)
	}
	batch := make([]frame.Frame, 1)
	for range 3 {
		e, err := Open(Config{Legs: []LegConfig{w.leg(0)}})
		if err != nil {
			t.Fatal(err)
		}
		e.Wake()
		_, _, _ = e.Next(batch)
		_ = e.Close()
		_, _, _ = e.Next(batch)
	}
	if n := sockets(t); n != before {
		t.Errorf("%d files after the end, want %d", n, before)
	}
	func() {
		e, err := Open(Config{Legs: []LegConfig{w.leg(0)}})
		if err != nil {
			t.Fatal(err)
		}
		e.Wake()
		_, _, _ = e.Next(batch)
		_ = e.Close() // and no Next after it
	}()
	eventually(t, "the garbage collector releases the engine", func() bool {
		runtime.GC()
		return sockets(t) == before
	})
}

func TestOpenErrors(t *testing.T) {
	w := newLab(t, 1)[0]
	for _, c := range []struct {
		name string
		leg  LegConfig
		is   error
		says []string
	}{
		{"no such name", LegConfig{Name: "nosuch"}, nil, []string{"interface nosuch", "ip link"}},
		{"no such number", LegConfig{Index: 12345}, unix.ENODEV, []string{"interface number 12345"}},
		{"the loopback", LegConfig{Name: "lo"}, nil, []string{"interface lo", "loopback"}},
	} {
		e, err := Open(Config{Legs: []LegConfig{c.leg}})
		if e != nil || err == nil {
			t.Errorf("%s: %v, %v", c.name, e, err)
			continue
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", c.name, err, c.is)
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v does not say %q", c.name, err, s)
			}
		}
	}
	// By its number alone an interface gets its name from the kernel.
	e := open(t, Config{Legs: []LegConfig{{Index: w.link.Attrs().Index}}})
	if l := e.Stats().Legs[0]; l.Name != w.link.Attrs().Name {
		t.Errorf("named %q", l.Name)
	}
	// The capabilities belong to the thread, which ends with this test.
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_RAW
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{Legs: []LegConfig{w.leg(0)}})
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("without the capability: %v", err)
	}
}
