package wiretest

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"shunt/api"
)

// load is new connections without a pause, until it is ended.
type load struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	pages atomic.Int64
	mu    sync.Mutex
	errs  []error
}

func (w *world) load(parallel int) *load {
	l := &load{stop: make(chan struct{})}
	for range parallel {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.pages.Add(1)
				if _, err := w.page(); err != nil {
					l.mu.Lock()
					l.errs = append(l.errs, err)
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

// end returns how many pages were fetched, and which of these failed.
func (l *load) end() (pages int, errs []error) {
	close(l.stop)
	l.wg.Wait()
	return int(l.pages.Load()), l.errs
}

// reload puts a configuration in force.
func (w *world) reload(config string) {
	w.t.Helper()
	before := w.status().Reloads
	w.must(w.director.Reload(config))
	if n := w.status().Reloads; n != before+1 {
		w.t.Fatalf("%d reloads were counted, and before this one %d", n, before)
	}
	w.settled()
}

// Realservers come, change and go while connections are made without a pause: none is lost. As an
// operator would, a realserver is given weight 0 until its connections have ended, before it is
// removed.
func TestReloadUnderLoad(t *testing.T) {
	eachFamily(t, 3, reloadUnderLoad, "two-arm")
}

func reloadUnderLoad(t *testing.T, w *world) {
	w.serveTalks()
	reals := func(weights ...int) []realserver {
		var out []realserver
		for i, weight := range weights {
			if weight >= 0 {
				out = append(out, realserver{address: w.family.rip(i + 1), weight: weight})
			}
		}
		return out
	}
	config := func(weights ...int) string {
		return w.config("", w.http("wrr", reals(weights...)...), on("tcp", 7, reals(1, 1)))
	}
	w.start(config(1, 1, -1))
	talks := []*talk{w.talk(), w.talk()}
	l := w.load(4)
	w.eventually("there is load", func() bool { return w.service().Counts.Flows > 20 })
	flows := w.service().Counts.Flows
	for range 5 {
		w.reload(config(3, 1, -1)) // another weight
		w.reload(config(3, 1, 2))  // one more
		w.eventually("the new realserver has connections", func() bool { r, _ := w.realserver(3); return r.Active+r.Inactive > 0 })
		w.reload(config(1, 2, 0)) // it is quiesced,
		w.eventually("its connections have ended", func() bool { return w.open(3) == 0 })
		w.reload(config(1, 2, -1)) // and removed
		if r, ok := w.realserver(3); ok {
			t.Errorf("a realserver that was removed is listed: %+v", r)
		}
		for _, k := range talks {
			w.must(k.say("still"))
		}
		now := w.service().Counts.Flows
		if now < flows {
			t.Errorf("the service had %d flows before four reloads and has %d after", flows, now)
		}
		flows = now
	}
	pages, errs := l.end()
	if len(errs) > 0 {
		t.Errorf("%d of %d pages failed during 20 reloads; the first: %v", len(errs), pages, errs[0])
	}
	if s := w.service(); s.Counts.Flows != uint64(pages) {
		t.Errorf("the service counts %d flows; %d pages were fetched", s.Counts.Flows, pages)
	}
	t.Logf("%d pages", pages)
}

// open is how many connections realserver i has that the client has not ended.
func (w *world) open(i int) (n int) {
	w.t.Helper()
	all, err := w.director.Connections(w.ctx)
	w.must(err)
	for _, c := range all {
		if c.Realserver.Addr().String() == w.family.rip(i) && (c.State == "SYN_RECV" || c.State == "ESTABLISHED") {
			n++
		}
	}
	return n
}

// A configuration that is wrong changes nothing, and the log says where it is wrong.
func TestReloadRefused(t *testing.T) {
	eachFamily(t, 2, reloadRefused, "two-arm")
}

func reloadRefused(t *testing.T, w *world) {
	w.serveTalks()
	good := w.config("", on("tcp", 7, w.all()))
	w.start(good)
	k := w.talk()
	before := w.services()
	position := regexp.MustCompile(`shunt\.yaml:(\d+):(\d+)`)
	for _, c := range []struct{ name, config, says string }{
		{"unknown key", strings.Replace(good, "services:", "servcies: []\nservices:", 1), "servcies"},
		{"half-written", strings.TrimRight(good, "]}\n "), ""},
		{"no YAML", good + "\n]", ""},
		{"wrong address", strings.Replace(good, w.family.rip(2), w.family.wrong, 1), w.family.wrong},
		{"wrong weight", strings.Replace(good, "weight: 1", "weight: -1", 1), "weight"},
		{"realserver on no network", strings.Replace(good, w.family.rip(2), w.family.far, 1), w.family.far},
	} {
		if text := w.refused(c.config, before); !position.MatchString(text) || !strings.Contains(text, c.says) {
			t.Errorf("%s: the log does not say what and where: %q", c.name, text)
		}
		w.must(k.say("still"))
	}
	// The sockets of the legs are open: other legs need another start.
	for _, config := range []string{
		strings.Replace(good, "  - interface: eth1\n", "", 1),
		w.config("legs:\n  - interface: eth0\n  - {name: private, interface: eth1}", on("tcp", 7, w.all())),
	} {
		if text := w.refused(config, before); !position.MatchString(text) || !strings.Contains(text, "legs cannot change on reload") {
			t.Errorf("other legs: the log has %q", text)
		}
		w.must(k.say("still"))
	}
	w.pagesByTalk(4)
	w.reload(good)
	w.must(k.say("still"))
}

// refused has the director read a configuration that it must not take, and returns what it logs.
func (w *world) refused(config string, before []api.Service) string {
	w.t.Helper()
	logged := len(w.director.Log())
	w.must(w.director.Reload(config))
	w.eventually("the refusal is logged", func() bool {
		return strings.Contains(w.director.Log()[logged:], "the old configuration stays in force")
	})
	if n := w.status().Reloads; n != 0 {
		w.t.Errorf("%d reloads were counted", n)
	}
	if now := w.services(); !slices.EqualFunc(now, before, sameService) {
		w.t.Errorf("the services were %+v and are %+v", before, now)
	}
	return w.director.Log()[logged:]
}

// services lists all services.
func (w *world) services() []api.Service {
	w.t.Helper()
	out, err := w.director.Services(w.ctx)
	w.must(err)
	return out
}

// sameService compares what the configuration decides, and that what was counted is still counted.
func sameService(a, b api.Service) bool {
	return a.Address == b.Address && a.Scheduler == b.Scheduler && a.Counts.Flows == b.Counts.Flows && a.Counts.Packets >= b.Counts.Packets &&
		slices.EqualFunc(a.Realservers, b.Realservers, func(x, y api.Realserver) bool {
			return x.Address == y.Address && x.MAC == y.MAC && x.Weight == y.Weight && x.Active == y.Active && x.Counts.Flows == y.Counts.Flows
		})
}
