package wiretest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/internal/netlab"
)

// packetSockets counts the packet sockets of the director's host.
func (w *world) packetSockets() (n int) {
	w.t.Helper()
	w.must(w.Director.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/packet")
		n = bytes.Count(text, []byte("\n")) - 1 // the first line is the heading
		return err
	}))
	return n
}

// A director that is told to end does so soon, says that all is well, and leaves nothing. The next
// one works at once.
func TestStopAndStart(t *testing.T) {
	eachFamily(t, 2, stopAndStart, "one-arm")
}

func stopAndStart(t *testing.T, w *world) {
	config := w.config("", w.http("rr"))
	for range 3 {
		w.start(config)
		w.pages(4, 2)
		if n := w.packetSockets(); n < 3 {
			t.Errorf("a director that runs has %d packet sockets, not one to receive, one to send and one for ARP", n)
		}
		began := time.Now()
		w.stop()
		t.Logf("ended after %s", time.Since(began)) // one that hangs is ended by stop, as an error
		if n := w.packetSockets(); n != 0 {
			t.Errorf("%d packet sockets are left", n)
		}
		if _, err := os.Lstat(w.socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the control socket is left: %v", err)
		}
		if got := w.tables(); len(got) != 0 {
			t.Errorf("the tables %v are left", got)
		}
	}
}

// It ends while it reads a configuration that never comes, and forwards meanwhile.
func TestStopDuringReload(t *testing.T) {
	w := build(t, "one-arm", 2)
	w.start(w.config("", w.http("rr")))
	d, path := w.director, w.director.ConfigPath
	w.must(os.Remove(path))
	w.must(unix.Mkfifo(path, 0o600)) // which nobody writes to
	for range 3 {
		w.must(w.director.Signal(unix.SIGHUP))
		w.pages(4, 2)
	}
	w.stop()
	if log := d.Log(); !strings.Contains(log, "reload cancelled") {
		t.Errorf("the log:\n%s", log)
	}
}

// It ends in the midst of traffic, too.
func TestStopUnderLoad(t *testing.T) {
	eachFamily(t, 2, stopUnderLoad, "two-arm")
}

func stopUnderLoad(t *testing.T, w *world) {
	w.browser.Timeout, w.dial = time.Second, 100*time.Millisecond // the pages of the last moments are lost
	w.start(w.config("", w.http("rr")))
	l := w.load(4)
	w.eventually("there is load", func() bool { return w.service().Counts.Flows > 50 })
	w.stop()
	l.end()
	if n := w.packetSockets(); n != 0 {
		t.Errorf("%d packet sockets are left", n)
	}
}

// command prepares a director that is started without capabilities.
func (w *world) unprivileged(caps string) (*exec.Cmd, *bytes.Buffer) {
	w.t.Helper()
	path := w.dir + "/shunt.yaml"
	w.must(os.WriteFile(path, []byte(w.config("", w.http("rr"))), 0o644))
	self, err := os.Executable()
	w.must(err)
	cmd := exec.Command(self, program, "run", "-c", path)
	cmd.Env = append(os.Environ(), without+"="+caps)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

// Whoever starts it without the right to is told which one is missing, and how to get it.
func TestMissingCapabilities(t *testing.T) {
	w := build(t, "one-arm", 1)
	// CAP_NET_RAW, and both of it and CAP_NET_ADMIN, of linux/capability.h.
	for _, caps := range []string{"13", "12,13"} {
		cmd, out := w.unprivileged(caps)
		w.must(w.Director.Start(cmd))
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("without the capabilities %s it ended with %v, not with status 1", caps, err)
		}
		for _, word := range []string{"CAP_NET_RAW", "setcap", "AmbientCapabilities", "eth0"} {
			if !strings.Contains(out.String(), word) {
				t.Errorf("without the capabilities %s it does not say %q:\n%s", caps, word, out)
			}
		}
	}
	if n := len(w.tables()); n != 0 {
		t.Errorf("%d tables are left", n)
	}
}

// Without CAP_NET_ADMIN it forwards, but there is no guard: the log says so, and what to do.
func TestWithoutNetAdmin(t *testing.T) {
	eachFamily(t, 1, withoutNetAdmin, "one-arm")
}

func withoutNetAdmin(t *testing.T, w *world) {
	cmd, out := w.unprivileged("12")
	w.must(w.Director.Start(cmd))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	w.eventually("a page comes through a director without CAP_NET_ADMIN", func() bool {
		_, err := w.Client.Dial(dialer(time.Second), w.family.tcp, w.family.at(w.family.vip, "80"))
		return err == nil
	})
	w.must(cmd.Process.Signal(unix.SIGTERM))
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	for _, word := range []string{"no guard", "CAP_NET_ADMIN is missing", "setcap", "guard: off"} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("it does not say %q:\n%s", word, out)
		}
	}
}

// A second director on the same host with the same control socket is refused, and does the first no
// harm: no frame is forwarded twice meanwhile, and its guard stays.
func TestSecondDirector(t *testing.T) {
	eachFamily(t, 2, secondDirector, "one-arm")
}

func secondDirector(t *testing.T, w *world) {
	w.start(w.config("", w.http("rr")))
	before := w.tables()
	captures := w.capture()
	for range 3 {
		cmd := exec.Command(program, "run", "-c", w.director.ConfigPath)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		l := w.load(1)
		w.must(w.Director.Start(cmd))
		err := cmd.Wait()
		if _, errs := l.end(); len(errs) > 0 {
			t.Errorf("%d pages failed; the first: %v", len(errs), errs[0])
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out.String(), "a director answers there already") {
			t.Errorf("the second director ended with %v and said:\n%s", err, &out)
		}
		if got := w.tables(); !slices.Equal(got, before) {
			t.Errorf("the guard's tables were %v and are %v", before, got)
		}
	}
	// Frames are counted twice, in and out: the last ones may still be on their way.
	to, from := 0, 0
	w.eventually("the director has sent as many frames as it got", func() bool {
		to, from = passed(captures["director"].Records())
		return to > 0 && to <= from
	})
	if to != from {
		t.Errorf("the director got %d frames and sent %d", to, from)
	}
}

// passed counts the frames to the VIP that a port's host got and sent.
func passed(records []netlab.Record) (to, from int) {
	for _, r := range records {
		switch {
		case !toVIPFrame(&r):
		case r.ToHost:
			to++
		default:
			from++
		}
	}
	return to, from
}
