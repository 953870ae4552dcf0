package wiretest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/api"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// patience bounds every wait for something that must come. It is long because it is never waited
// for in vain, except by a test that fails.
const patience = 60 * time.Second

// A world is a laboratory and the director that runs in it.
type world struct {
	*lab.Network
	t        *testing.T
	ctx      context.Context
	dir      string
	socket   string
	director *lab.Director
	browser  *http.Client
	url      string        // of the pages
	ports    uint32        // the last one that a browser connected from
	dial     time.Duration // how long a browser waits for a connection
	family   family        // of the services
	quiet    bool          // there are realservers that answer only when the test has them do so

	stopServer []func() // of the realservers, by their number from 0
}

// browse makes a browser that connects from one of the client's addresses, each time from another
// port: a port that comes again too soon is, to the director as to the kernel's IPVS, still the old
// connection, and would not be scheduled anew.
func (w *world) browse(from string) *http.Client {
	return &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
				port := int(atomic.AddUint32(&w.ports, 1))
				d := &net.Dialer{Timeout: w.dial, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from), Port: port}}
				return w.Client.Dial(d, network, address)
			},
		},
	}
}

// build makes a laboratory whose realservers serve pages, take uploads and give downloads.
func build(t *testing.T, topology string, webs int) *world {
	t.Helper()
	n, err := lab.Build(topology, webs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	dir := worldDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	w := &world{Network: n, t: t, ctx: ctx, dir: dir, socket: filepath.Join(dir, "shunt.sock"), ports: 1024, dial: patience / 2, family: ipv4Family, url: "http://" + lab.VIP + "/"}
	w.browser = w.browse(lab.ClientIP)
	for _, h := range n.Webs {
		mux := http.NewServeMux()
		uploads(mux)
		downloads(mux)
		stop, err := lab.Serve(h, mux)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		w.stopServer = append(w.stopServer, stop)
	}
	return w
}

// worldDir makes a directory for the sockets of a director and its connection table, which is slow
// on a disk: on the tmpfs that most hosts have, if there is room for the tables of some directors,
// or else where temporary files are.
func worldDir(t *testing.T) string {
	t.Helper()
	base := "/dev/shm"
	var fs unix.Statfs_t
	if err := unix.Statfs(base, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || fs.Bavail*uint64(fs.Bsize) < 1<<30 {
		base = ""
	}
	// Not t.TempDir: with the name of the test in it the path of a unix socket becomes too long.
	dir, err := os.MkdirTemp(base, "wt")
	if err != nil && base != "" {
		dir, err = os.MkdirTemp("", "wt")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

// start has the director run with a configuration, and look at at the end of the test what it left.
// It waits until each realserver has answered, or is known not to: on a busy machine the director
// may begin before.
func (w *world) start(config string) {
	w.t.Helper()
	d, err := w.Start(program, w.dir, config, w.socket, nil)
	w.must(err)
	w.director = d
	w.t.Cleanup(func() {
		if w.director != d {
			return // the test has ended this one
		}
		w.explain()
		w.stop()
	})
	w.settled()
}

// settled waits until no realserver is being looked for. A test counts on what new connections go
// to.
func (w *world) settled() {
	w.t.Helper()
	if w.quiet {
		return
	}
	w.eventually("each realserver has answered, or failed to", func() bool {
		all, err := w.director.Neighbours(w.ctx)
		w.must(err)
		for _, s := range w.services() { // what the engine knows, which is told after the resolver does
			for _, r := range s.Realservers {
				failed := func(n api.Neighbour) bool {
					return n.Address == r.Address.Addr() && n.State == api.Failed
				}
				if r.MAC == "" && !slices.ContainsFunc(all, failed) {
					return false
				}
			}
		}
		return true
	})
}

// stop ends the director, and checks that it ends well.
func (w *world) stop() {
	w.t.Helper()
	d := w.director
	w.director = nil
	if err := d.Stop(); err != nil {
		w.t.Error(err)
	}
	if strings.Contains(d.Log(), "DATA RACE") {
		w.t.Errorf("the director has a data race:\n%s", d.Log())
	}
}

// explain shows the director's log and counters if the test has failed.
func (w *world) explain() {
	if !w.t.Failed() {
		return
	}
	log := w.director.Log()
	if n := len(log) - 16<<10; n > 0 {
		log = "...\n" + log[n:]
	}
	w.t.Logf("the director's log:\n%s", log)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := w.director.Overview(ctx)
	if err == nil {
		zero := func(_ string, n uint64) bool { return n == 0 }
		maps.DeleteFunc(s.Verdicts, zero)
		w.t.Logf("%d flows, %d reloads, %v, %+v, %+v", s.Flows, s.Reloads, s.Verdicts, s.Table, s.Legs)
	}
	for name, v := range map[string]any{"services": s.Services, "neighbours": s.Neighbours} {
		text, _ := json.Marshal(v)
		w.t.Logf("%s: %s, %v", name, text, err)
	}
}

// A realserver and a service, as the configuration has them.
type realserver struct {
	address string
	weight  int
	mac     string
}

type service struct {
	proto     string
	port      int
	scheduler string
	reals     []realserver
	vip       string // "" : that of the world's family
}

// all has all realservers, each of weight 1.
func (w *world) all() []realserver {
	var out []realserver
	for i := range w.Webs {
		out = append(out, realserver{address: w.family.rip(i + 1), weight: 1})
	}
	return out
}

// http is the service that most tests have.
func (w *world) http(scheduler string, reals ...realserver) service {
	if len(reals) == 0 {
		reals = w.all()
	}
	return service{proto: "tcp", port: 80, scheduler: scheduler, reals: reals}
}

// on is a service with rr on some other port.
func on(proto string, port int, reals []realserver) service {
	return service{proto: proto, port: port, scheduler: "rr", reals: reals}
}

// config writes the configuration. more has keys of the top level; "legs:" among them replaces the
// usual legs.
func (w *world) config(more string, services ...service) string {
	var b strings.Builder
	if !strings.Contains(more, "legs:") {
		b.WriteString("legs:\n  - interface: eth0\n")
		if w.Topology == "two-arm" {
			b.WriteString("  - interface: eth1\n")
		}
	}
	fmt.Fprintf(&b, "log: {format: text}\ncontrol: {socket: %s}\n%s\nservices:\n", w.socket, more)
	for _, s := range services {
		vip := cmp.Or(s.vip, w.family.vip)
		fmt.Fprintf(&b, "  - {address: %q, protocol: %s, port: %d, scheduler: %s, realservers: [", vip, s.proto, s.port, s.scheduler)
		for i, r := range s.reals {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "{address: %q, weight: %d", r.address, r.weight)
			if r.mac != "" {
				fmt.Fprintf(&b, ", mac: %q", r.mac)
			}
			b.WriteString("}")
		}
		b.WriteString("]}\n")
	}
	return b.String()
}

func (w *world) status() api.Status {
	w.t.Helper()
	s, err := w.director.Status(w.ctx)
	w.must(err)
	return s
}

// legOf is a leg of a director by its name, or one that has counted nothing.
func legOf(s *api.Status, name string) *api.Leg {
	for i := range s.Legs {
		if s.Legs[i].Name == name {
			return &s.Legs[i]
		}
	}
	return new(api.Leg)
}

// leg asks for a leg, which there must be.
func (w *world) leg(name string) *api.Leg {
	w.t.Helper()
	s := w.status()
	l := legOf(&s, name)
	if l.Name == "" {
		w.t.Fatalf("the director has no leg %s: %+v", name, s.Legs)
	}
	return l
}

// service returns the first service.
func (w *world) service() api.Service {
	w.t.Helper()
	s := w.services()
	if len(s) == 0 {
		w.t.Fatal("the director has no service")
	}
	return s[0]
}

// realserver returns what the first service says of realserver i.
func (w *world) realserver(i int) (api.Realserver, bool) {
	w.t.Helper()
	reals := w.service().Realservers
	at := slices.IndexFunc(reals, func(r api.Realserver) bool {
		return r.Address.Addr().String() == w.family.rip(i)
	})
	if at < 0 {
		return api.Realserver{}, false
	}
	return reals[at], true
}

// eventually waits until a condition holds.
func (w *world) eventually(what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("after %s it is still not so that %s", patience, what)
		}
	}
}

// logged waits until the director has logged all of the words in one line.
func (w *world) logged(words ...string) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("the log has a line with %q", words), func() bool {
		return slices.ContainsFunc(strings.Split(w.director.Log(), "\n"), func(line string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
		})
	})
}

// page fetches one page, and returns who served it.
func (w *world) page() (string, error) {
	p, err := lab.Fetch(w.ctx, w.browser, w.url)
	return p.From, err
}

// pages fetches n pages, each over a connection of its own, parallel at a time, and counts who
// served them. None may fail.
func (w *world) pages(n, parallel int) map[string]int {
	w.t.Helper()
	var mu sync.Mutex
	got := map[string]int{}
	var errs []error
	var wg sync.WaitGroup
	work := make(chan int)
	for range parallel {
		wg.Go(func() {
			for range work {
				from, err := w.page()
				mu.Lock()
				if got[from]++; err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	if len(errs) > 0 {
		w.t.Fatalf("%d of %d pages failed; the first: %v", len(errs), n, errors.Join(errs[:min(len(errs), 3)]...))
	}
	return got
}

// capture records what passes all ports, in memory.
func (w *world) capture() map[string]*netlab.Capture {
	w.t.Helper()
	c, err := w.Capture("")
	w.must(err)
	return c
}

// records ends a capture, and returns all that it has.
func (w *world) records(c *netlab.Capture) []netlab.Record {
	w.t.Helper()
	w.must(c.Close())
	return c.Records()
}

func dialer(timeout time.Duration) *net.Dialer { return &net.Dialer{Timeout: timeout} }
