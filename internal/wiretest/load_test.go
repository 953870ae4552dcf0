package wiretest

import (
	"sync"
	"testing"

	"shunt/internal/lab"
)

// Short connections, many at a time: none fails, and the realservers get exactly the shares that
// the scheduler's arithmetic gives them, whatever the order in which the connections end.
func TestShortConnections(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 2_000
	}
	for _, f := range families {
		n := n
		if f.name == "IPv6" {
			n /= 5
		}
		for _, topology := range lab.Topologies {
			t.Run(topology+"/"+f.name+"/rr", func(t *testing.T) {
				w := buildFor(t, f, topology, 2)
				w.start(w.config("", w.http("rr")))
				got := w.pages(n, 16)
				if got["web1"] != n/2 || got["web2"] != n/2 {
					t.Errorf("rr spread %d connections as %v", n, got)
				}
				w.tally(n, got)
			})
			t.Run(topology+"/"+f.name+"/wrr", func(t *testing.T) {
				w := buildFor(t, f, topology, 2)
				w.start(w.config("", w.http("wrr", realserver{address: f.rip(1), weight: 3}, realserver{address: f.rip(2), weight: 1})))
				n := n / 5
				got := w.pages(n, 16)
				// A cycle is four connections, and the last one may be cut short.
				if d := got["web1"] - n*3/4; d < -4 || d > 4 {
					t.Errorf("wrr 3:1 spread %d connections as %v", n, got)
				}
				w.tally(n, got)
			})
		}
	}
}

// tally compares the director's counts with what the client saw.
func (w *world) tally(n int, got map[string]int) {
	w.t.Helper()
	s := w.service()
	if s.Counts.Flows != uint64(n) {
		w.t.Errorf("the service counts %d flows, the client made %d connections", s.Counts.Flows, n)
	}
	for i, h := range w.Webs {
		if r, _ := w.realserver(i + 1); r.Counts.Flows != uint64(got[h.Name]) {
			w.t.Errorf("%s counts %d flows, but served %d pages", h.Name, r.Counts.Flows, got[h.Name])
		}
	}
	// The last frames of the connections may come after their pages.
	w.eventually("the counts of frames agree", func() bool {
		s, sum := w.service(), uint64(0)
		for _, r := range s.Realservers {
			sum += r.Counts.Packets
		}
		return s.Counts.Packets == sum && w.status().Verdicts["forwarded"] == sum
	})
	for name, count := range w.status().Verdicts {
		if name != "forwarded" && count != 0 {
			w.t.Errorf("%d frames: %s", count, name)
		}
	}
}

// Whoever asks the director much, and has it read its configuration again and again, does not
// disturb what it forwards.
func TestQuestionsUnderLoad(t *testing.T) {
	eachFamily(t, 2, questionsUnderLoad, "two-arm")
}

func questionsUnderLoad(t *testing.T, w *world) {
	config := w.config("workers: 2", w.http("rr"))
	w.start(config)
	l := w.load(4)
	each := 20
	if race { // to list all connections takes long then
		each = 8
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var wrong []error
	for _, ask := range []func() error{
		func() error { _, err := w.director.Status(w.ctx); return err },
		func() error { _, err := w.director.Services(w.ctx); return err },
		func() error { _, err := w.director.Connections(w.ctx); return err },
		func() error { _, err := w.director.Neighbours(w.ctx); return err },
	} {
		wg.Go(func() {
			for range each {
				if err := ask(); err != nil {
					mu.Lock()
					wrong = append(wrong, err)
					mu.Unlock()
				}
			}
		})
	}
	for range 5 {
		w.reload(config)
	}
	wg.Wait()
	pages, errs := l.end()
	if len(wrong) > 0 {
		t.Errorf("%d questions failed; the first: %v", len(wrong), wrong[0])
	}
	if len(errs) > 0 {
		t.Errorf("%d of %d pages failed; the first: %v", len(errs), pages, errs[0])
	}
	if s := w.service(); s.Counts.Flows != uint64(pages) {
		t.Errorf("the service counts %d flows; %d pages were fetched", s.Counts.Flows, pages)
	}
}
