package wiretest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shunt/forwarder/frame"
	"shunt/internal/netlab"
)

// talkers are connections that say something now and then, until they are ended.
type talkers struct {
	w     *world
	talks []*talk
	said  []atomic.Uint64
	errs  []error // by talker
	stop  chan struct{}
	wg    sync.WaitGroup
}

// talkTo opens n connections, and has them talk.
func (w *world) talkTo(n int) *talkers {
	w.t.Helper()
	k := &talkers{w: w, talks: make([]*talk, n), said: make([]atomic.Uint64, n), errs: make([]error, n), stop: make(chan struct{})}
	var wg sync.WaitGroup
	next := make(chan int)
	for range 32 {
		wg.Go(func() {
			for i := range next {
				k.talks[i] = w.talk()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	for i := range n {
		k.wg.Go(func() { k.errs[i] = k.run(i) })
	}
	return k
}

func (k *talkers) run(i int) error {
	for {
		select {
		case <-k.stop:
			return nil
		case <-time.After(time.Duration(rand.IntN(600)) * time.Millisecond):
		}
		if err := k.talks[i].say(fmt.Sprintf("line-%d-of-%d", k.said[i].Load(), i)); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		k.said[i].Add(1)
	}
}

// everyone waits until each connection has carried something since now, there and back, or is lost.
func (k *talkers) everyone(when string) {
	k.w.t.Helper()
	before := make([]uint64, len(k.said))
	for i := range before {
		before[i] = k.said[i].Load()
	}
	k.w.eventually("all connections carry data "+when, func() bool {
		for i := range before {
			if k.said[i].Load() < before[i]+2 { // one may have been said already
				return false
			}
		}
		return true
	})
}

// end ends them, and returns what went wrong.
func (k *talkers) end() error {
	close(k.stop)
	k.wg.Wait()
	return errors.Join(k.errs...)
}

var tookOver = regexp.MustCompile(`connections taken over from.* connections=(\d+) .*took=(\S+)`)

// taken is how many connections the director says it took over, and how long it took.
func (w *world) taken() (n int, took string) {
	w.t.Helper()
	var m []string // what it writes comes to us later than that it is ready
	w.eventually("the director says that it took over connections", func() bool {
		m = tookOver.FindStringSubmatch(w.director.Log())
		return m != nil
	})
	n, err := strconv.Atoi(m[1])
	w.must(err)
	return n, m[2]
}

// Two thousand connections with traffic, of IPv6 fewer, outlive ten directors that are killed, one
// that ends, and an upgrade.
func TestRestartWithoutLoss(t *testing.T) {
	eachFamily(t, 3, restartWithoutLoss, "two-arm")
}

func restartWithoutLoss(t *testing.T, w *world) {
	connections, kills := 2000, 10
	if w.family.name == ipv6Family.name { // what is lost by size or often would be lost by IPv4 too
		connections, kills = 500, 3
	}
	w.serveTalks()
	config := w.config("", w.http("rr"), on("tcp", 7, w.all()))
	w.start(config)
	k := w.talkTo(connections)
	captures := w.capture()
	k.everyone("at first")
	again := func(how string) {
		t.Helper()
		began := time.Now()
		w.start(config)
		ready := time.Since(began)
		n, took := w.taken()
		if n != connections {
			t.Errorf("%s: %d connections were taken over, not %d", how, n, connections)
		}
		k.everyone(how)
		t.Logf("%s: took over in %s, ready after %s, all have talked after %s", how, took, ready.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
	for i := range kills {
		w.director.Kill()
		again(fmt.Sprintf("after kill number %d", i+1))
	}
	w.stop()
	again("after SIGTERM")

	// Another version of the program, and back.
	former := program
	defer func() { program = former }()
	program = w.nextVersion()
	w.stop()
	again("after the upgrade")
	if v := w.status().Version; v != "99.0" {
		t.Errorf("the version is %s: this was no upgrade", v)
	}
	if s := w.realservers(7); s.flows < uint64(connections) {
		t.Errorf("%d flows are counted in all: the counters did not go on", s.flows)
	}
	w.stop()
	program = former
	again("after the downgrade")
	if err := k.end(); err != nil {
		t.Errorf("connections were lost: %v", err)
	}
	seen := 0
	for name, c := range captures {
		if strings.HasPrefix(name, "director") {
			seen++
			if n := kernelReplies(w.records(c)); n != 0 {
				t.Errorf("meanwhile the director's host sent %d frames from the VIP, on %s", n, name)
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d ports of the director were captured", seen)
	}
}

// nextVersion is a program that calls itself version 99.0: SHUNT_BINARY_NEXT, or one that is built
// here.
func (w *world) nextVersion() string {
	w.t.Helper()
	if path := os.Getenv("SHUNT_BINARY_NEXT"); path != "" {
		return path
	}
	path := filepath.Join(w.t.TempDir(), "shunt-next") // no program need run where the world's files are
	if out, err := exec.Command("go", "build", "-o", path, "-ldflags", "-X main.version=99.0", "shunt/cmd/shunt").CombinedOutput(); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return path
}

type counted struct{ flows uint64 }

// realservers adds up what a service on a port counted.
func (w *world) realservers(port uint16) (c counted) {
	w.t.Helper()
	for _, s := range w.services() {
		if s.Address.Port() == port {
			c.flows += s.Counts.Flows
		}
	}
	return c
}

// What is no table of this director is refused, the log says why, and the director works.
func TestRestartRefuses(t *testing.T) {
	w := build(t, "one-arm", 1)
	state := strings.TrimSuffix(w.socket, ".sock") + ".state"
	config := w.config("", w.http("rr"))
	w.start(config)
	w.pages(2, 1)
	w.stop()
	for _, c := range []struct {
		says string
		do   func() error
		more string
	}{
		{"it was truncated", func() error { return os.Truncate(filepath.Join(state, "table.0"), 100_000) }, ""},
		{"not a connection table", func() error {
			return os.WriteFile(filepath.Join(state, "table.0"), []byte(strings.Repeat("foreign ", 20_000)), 0o600)
		}, ""},
		{"not a file of names", func() error {
			return os.WriteFile(filepath.Join(state, "names"), []byte(strings.Repeat("foreign ", 20_000)), 0o600)
		}, ""},
		{"the header is missing", func() error { return os.Truncate(filepath.Join(state, "names"), 10) }, ""},
		{"table changed from 1000000 to 2000", nil, "flows: 2000"},
	} {
		if c.do != nil {
			w.must(c.do())
		}
		w.start(w.config(c.more, w.http("rr")))
		w.logged("level=WARN", "are not taken over", c.says)
		w.pages(2, 1)
		w.stop()
	}
	// Damage in the midst of the table costs the entries that it hit, at most.
	f, err := os.OpenFile(filepath.Join(state, "table.0"), os.O_RDWR, 0)
	w.must(err)
	for range 20_000 {
		_, err := f.WriteAt([]byte{byte(rand.Uint32())}, 4096+rand.Int64N(100_000))
		w.must(err)
	}
	w.must(f.Close())
	w.start(w.config("flows: 2000", w.http("rr")))
	w.pages(4, 2)
}

// Nothing is sent while no director runs that would harm connections: a director that was killed
// has left its guard, even where the host routes; one that has ended leaves the frames to a host
// that neither has the VIP nor routes.
func TestNothingIsSentBetween(t *testing.T) {
	eachFamily(t, 2, nothingIsSentBetween, "one-arm")
}

func nothingIsSentBetween(t *testing.T, w *world) {
	w.serveTalks()
	config := w.config("", on("tcp", 7, w.all()))
	w.start(config)
	k := w.talkTo(20)
	for _, c := range []struct {
		name, forward string
		end           func()
	}{{"killed", "1", func() { w.director.Kill() }}, {"ended", "0", w.stop}} {
		w.must(w.Director.Sysctl(w.family.forwarding, c.forward))
		k.everyone("before it is " + c.name)
		c.end()
		captures := w.capture()
		// Until the clients have sent again, in vain.
		w.eventually("frames for the VIP come", func() bool {
			n := 0
			for _, r := range captures["director"].Records() {
				f := frame.Frame{Buf: r.Data, Wire: int32(r.Length)}
				var p frame.Packet
				if r.ToHost && frame.Parse(&f, &p) == frame.OK && toVIP(&p) {
					n++
				}
			}
			return n > 60
		})
		sent := 0
		for _, r := range w.records(captures["director"]) {
			if !r.ToHost && !ofNeighbours(&r) {
				sent++
			}
		}
		if sent != 0 {
			t.Errorf("%s: the host without a director sent %d frames", c.name, sent)
		}
		w.start(config)
		k.everyone("after it was " + c.name)
	}
	if err := k.end(); err != nil {
		t.Error(err)
	}
}

// ofNeighbours reports whether a frame is the kernel's own: ARP, or neighbour discovery or what it
// says of its groups.
func ofNeighbours(r *netlab.Record) bool {
	f := frame.Frame{Buf: r.Data, Wire: int32(r.Length)}
	var p frame.Packet
	arp := len(r.Data) >= frame.HeaderLen && r.Data[12] == 0x08 && r.Data[13] == 0x06
	return arp || frame.Parse(&f, &p) == frame.OK && (discovery(&p) || p.Dst.Netip().IsMulticast())
}
