package wiretest

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
	"shunt/forwarder/ring"
	"shunt/internal/lab"
)

// With two workers each has its own turn of rr. As all connections of a client must be with one
// worker, those of the clients of either worker alternate among themselves, whatever the other
// does.
func TestTwoWorkers(t *testing.T) {
	eachFamily(t, 2, twoWorkers, "two-arm")
}

func twoWorkers(t *testing.T, w *world) {
	const workers, clients = 2, 8
	var browsers [clients]*http.Client
	var shard [clients]int
	var members [workers]int
	for i := range clients {
		addr := w.moreClient(i)
		browsers[i] = w.browse(addr)
		shard[i] = ring.Shard(frame.AddrFrom(netip.MustParseAddr(addr)), workers)
		members[shard[i]]++
	}
	if members[0] == 0 || members[1] == 0 {
		t.Fatalf("the clients are divided as %v: choose other addresses", members)
	}
	w.start(w.config("workers: 2", w.http("rr")))
	url := w.url
	var last [workers]string
	for i := range 8 * clients {
		client := i * 5 % clients // now of one worker, now of the other
		p, err := lab.Fetch(w.ctx, browsers[client], url)
		w.must(err)
		if p.From == last[shard[client]] {
			t.Errorf("connection %d: two connections of worker %d went to %s one after the other", i, shard[client], p.From)
		}
		last[shard[client]] = p.From
	}
	const n, parallel = 1000, 16
	var mu sync.Mutex
	got := [workers]map[string]int{{}, {}}
	var errs []error
	var wg sync.WaitGroup
	for p := range parallel {
		wg.Go(func() {
			for i := p; i < n; i += parallel {
				client := i % clients
				page, err := lab.Fetch(w.ctx, browsers[client], url)
				mu.Lock()
				if got[shard[client]][page.From]++; err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		t.Fatalf("%d of %d pages failed; the first: %v", len(errs), n, errs[0])
	}
	for i, g := range got {
		if d := g["web1"] - g["web2"]; d < -1 || d > 1 {
			t.Errorf("worker %d spread its connections as %v", i, g)
		}
	}
	if s := w.service(); s.Counts.Flows != n+8*clients {
		t.Errorf("the service counts %d flows, not %d", s.Counts.Flows, n+8*clients)
	}
}

// The worker, and no other thread, runs on the processor that ring.cpus names; one that the machine
// does not have is refused.
func TestProcessors(t *testing.T) {
	w := build(t, "one-arm", 1)
	var may unix.CPUSet
	w.must(unix.SchedGetaffinity(0, &may))
	cpu := 0
	for !may.IsSet(cpu) {
		cpu++
	}
	w.start(w.config(fmt.Sprintf("ring: {cpus: [%d]}", cpu), w.http("rr")))
	w.pages(2, 1)
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", w.director.PID()))
	w.must(err)
	list := regexp.MustCompile(`(?m)^Cpus_allowed_list:\s+(\S+)$`)
	pinned := 0
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // it has ended meanwhile
		}
		w.must(err)
		if m := list.FindSubmatch(text); m != nil && string(m[1]) == strconv.Itoa(cpu) {
			pinned++
		}
	}
	if pinned != 1 && may.Count() > 1 || pinned == 0 {
		t.Errorf("%d of %d threads are bound to processor %d, not one", pinned, len(threads), cpu)
	}
	w.stop()
	d, err := w.Start(program, w.dir, w.config("ring: {cpus: [1023]}", w.http("rr")), w.socket, nil)
	if err == nil {
		_ = d.Stop()
		t.Fatal("a director starts on processor 1023")
	}
	if !regexp.MustCompile(`ring\.cpus: worker 0 cannot run on processor 1023`).MatchString(err.Error()) {
		t.Errorf("it says %v", err)
	}
}
