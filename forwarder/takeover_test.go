package forwarder_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// keeping makes an engine keep its state in a directory.
func keeping(dir string, more ...func(*forwarder.Config)) func(*forwarder.Config) {
	return func(c *forwarder.Config) {
		c.State = &forwarder.State{Dir: openDir(dir), Boot: [16]byte{1}, Now: second}
		c.Exact = false
		for _, m := range more {
			m(c)
		}
	}
}

// openDir opens a directory, and makes it if need be. The finalizer of os.Root closes it.
func openDir(dir string) *os.Root {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		panic(err)
	}
	return root
}

// crash copies what a process would leave that was killed now.
func crash(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// everything is what the director of these tests serves: some of everything. The order of its parts
// may differ.
func everything(backwards bool, servers ...int) forwarder.Plan {
	services := []forwarder.Service{
		service("TCP "+vip4+":80", "rr"),
		service("UDP "+vip4+":53", "rr"),
		service("TCP ["+vip6+"]:80", "rr"),
		service("TCP "+vip4+":8080", "rr", func(s *forwarder.Service) { s.Persistence = time.Hour }),
		{Name: "group", Scheduler: "rr", Persistence: time.Hour, Matches: []forwarder.Match{
			{Addr: addr(vip4), Proto: frame.TCP, First: 443, Last: 443}, {Addr: addr("203.0.113.11"), Proto: frame.TCP, First: 443, Last: 443}}},
	}
	p := forwarder.Plan{Settings: forwarder.DefaultSettings()}
	p.Settings.ExpireNodestConn = true // nothing that stays may end by it
	if backwards {
		slices.Reverse(services)
		servers = slices.Clone(servers)
		slices.Reverse(servers)
	}
	for _, s := range services {
		sp := forwarder.ServicePlan{Service: s}
		for _, n := range servers {
			d := dest(s, n)
			if s.Name != "" {
				d.Port = 0
			}
			sp.Destinations = append(sp.Destinations, d)
		}
		p.Services = append(p.Services, sp)
	}
	return p
}

func (r *rig) serveAll(p forwarder.Plan, servers ...int) {
	r.Helper()
	r.update(func(tx *forwarder.Tx) error { return tx.Apply(p) })
	for _, n := range servers {
		r.must(r.SetNeighbour(0, server(n, false), serverMAC(n)))
		r.must(r.SetNeighbour(0, server(n, true), serverMAC(n)))
	}
}

// talks opens connections of all kinds, and returns a frame of each that goes on with it.
func (r *rig) talks() (on []frame.Frame) {
	for i := range uint16(20) {
		for _, k := range []talk{talk4(2000+i, 80), talk6(2000+i, 80), talk4(3000+i, 8080), talk4(4000+i, 443)} {
			r.give(k.tcp(frame.SYN), k.tcp(frame.ACK))
			on = append(on, k.tcp(frame.ACK, 'x'))
		}
		r.give(talk4(5000+i, 53).udp('q'))
		on = append(on, talk4(5000+i, 53).udp('q'))
	}
	return on
}

// where gives frames, one by one, and tells where each went.
func (r *rig) where(frames []frame.Frame) (out []frame.MAC) {
	r.Helper()
	for i, f := range frames {
		sent := r.give(f)
		if len(sent) != 1 {
			r.Fatalf("frame %d: %d go out; %v", i, len(sent), r.Stats().Verdicts)
		}
		out = append(out, sent[0].Dst())
	}
	return out
}

// TestTakeover: an engine that takes over what another left, by its end or by being killed, goes on
// as if nothing had been, whatever the order of its configuration.
func TestTakeover(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a := start(t, keeping(dir))
	a.now = second
	a.serveAll(everything(false, 1, 2, 3), 1, 2, 3)
	frames := a.talks()
	a.give(talk4(1, 22).tcp(frame.SYN))
	a.must(a.Zero(nil))
	a.where(frames)
	a.now += 5 * second
	a.must(a.Maintain())
	want := a.where(frames)
	conns, services, stats := a.conns(), a.Services(), a.Stats()

	for _, c := range []struct {
		name string
		dir  func() string
	}{
		{"killed", func() string { return crash(t, dir) }},
		{"ended", func() string { a.must(a.Close()); return dir }},
	} {
		b := newRig(t, keeping(c.dir(), func(c *forwarder.Config) { c.State.Now = a.now }))
		b.now = a.now
		if got := b.Taken(); got.Afresh != "" || got.Flows != len(frames) || got.Templates != 2 || got.Dropped+got.Loosened != 0 {
			t.Fatalf("%s: taken over: %+v, want %d flows and 2 templates", c.name, got, len(frames))
		}
		b.serveAll(everything(true, 1, 2, 3), 1, 2, 3)
		order := cmpopts.SortSlices(func(x, y forwarder.ConnectionInfo) bool {
			return x.Client.Compare(y.Client) < 0 || x.Client == y.Client && x.Proto+x.Virtual.String() < y.Proto+y.Virtual.String()
		})
		same := cmp.Comparer(func(x, y forwarder.ServiceKey) bool { return x == y })
		if diff := cmp.Diff(conns, b.conns(), order, same, cmp.Comparer(func(x, y forwarder.ConnectionInfo) bool { return x == y })); diff != "" {
			t.Errorf("%s: connections: %s", c.name, diff)
		}
		for _, s := range b.Services() {
			i := slices.IndexFunc(services, func(o forwarder.ServiceInfo) bool { return o.Key() == s.Key() })
			if i < 0 || services[i].Counts != s.Counts {
				t.Errorf("%s: %s counts %v, not %v", c.name, s.Key(), s.Counts, services[i].Counts)
			}
			if s.Rates != (forwarder.Rates{}) {
				t.Errorf("%s: %s has rates of what was counted before: %+v", c.name, s.Key(), s.Rates)
			}
			for _, d := range s.Destinations {
				j := slices.IndexFunc(services[i].Destinations, func(o forwarder.DestinationInfo) bool { return o.Addr == d.Addr })
				o := services[i].Destinations[j]
				if o.Counts != d.Counts || o.Active != d.Active || o.Inactive != d.Inactive || o.Persistent != d.Persistent {
					t.Errorf("%s: %s at %s: %+v, want %+v", c.name, s.Key(), d.Addr, d, o)
				}
			}
		}
		if got := b.Stats(); got.Verdicts != stats.Verdicts || got.Table != stats.Table {
			t.Errorf("%s: counted %v and %v, not %v and %v", c.name, got.Verdicts, got.Table, stats.Verdicts, stats.Table)
		}
		if got := b.where(frames); !slices.Equal(got, want) {
			t.Errorf("%s: the connections go elsewhere:\n%v\n%v", c.name, got, want)
		}
		b.must(b.Maintain())
		b.must(b.Close())
	}
}

// A takeover may change the realservers: flows of those that are gone are treated as if they had
// been removed while it ran, and taken up when they come back.
func TestTakeoverOfOtherConfiguration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a := start(t, keeping(dir))
	a.now = second
	p := everything(false, 1, 2)
	p.Settings.ExpireNodestConn = false
	a.serveAll(p, 1, 2)
	frames := a.talks()
	want := a.where(frames)
	dirOfB := crash(t, dir)
	b := start(t, keeping(dirOfB, func(c *forwarder.Config) { c.State.Now = a.now }))
	b.now = a.now
	p = everything(false, 3, 2)
	p.Settings.ExpireNodestConn = false
	b.serveAll(p, 2, 3)
	for i, f := range frames {
		v := b.verdict(f)
		if want[i] == serverMAC(1) && v != forwarder.DestGone || want[i] == serverMAC(2) && v != forwarder.Forwarded {
			t.Fatalf("frame %d, to %v before, is %s", i, want[i], v)
		}
	}
	p = everything(false, 1, 3, 2)
	b.serveAll(p, 1)
	if got := b.where(frames); !slices.Equal(got, want) {
		t.Errorf("the connections went to %v and go to %v", want, got)
	}
	// And the next process knows the new one too.
	b.give(talk4(9000, 80).tcp(frame.SYN), talk4(9001, 80).tcp(frame.SYN), talk4(9002, 80).tcp(frame.SYN))
	frames = append(frames, talk4(9000, 80).tcp(frame.ACK), talk4(9001, 80).tcp(frame.ACK), talk4(9002, 80).tcp(frame.ACK))
	want = b.where(frames)
	c := start(t, keeping(crash(t, dirOfB), func(c *forwarder.Config) { c.State.Now = b.now }))
	c.now = b.now
	c.serveAll(p, 1, 2, 3)
	if got := c.where(frames); !slices.Equal(got, want) {
		t.Errorf("the connections went to %v and go to %v", want, got)
	}
}

// Flows whose time has come while no process was there are not found, and end.
func TestTakeoverAfterTimeouts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a := start(t, keeping(dir))
	a.now = second
	a.serveAll(everything(false, 1), 1)
	frames := a.talks()
	now := a.now + int64(20*time.Minute)
	b := start(t, keeping(crash(t, dir), func(c *forwarder.Config) { c.State.Now = now }))
	b.now = now
	b.serveAll(everything(false, 1), 1)
	b.expect(frames[0], forwarder.NoFlow)
	b.after(time.Minute)
	if n := b.Stats().Flows; n != 2 {
		t.Errorf("%d entries, want the 2 templates", n)
	}
	for _, s := range b.Services() {
		if d := s.Destinations[0]; d.Active+d.Inactive != 0 {
			t.Errorf("%s: %d and %d connections are counted", s.Key(), d.Active, d.Inactive)
		}
	}
}

// Only one engine at a time has a directory.
func TestStateIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a := start(t, keeping(dir))
	_, err := forwarder.New(forwarder.Config{Legs: []forwarder.Leg{{}}, Flows: 1024, State: &forwarder.State{Dir: openDir(dir), Boot: [16]byte{1}}})
	if !errors.Is(err, forwarder.ErrStateBusy) || !errors.Is(err, forwarder.ErrState) {
		t.Errorf("the error is %v", err)
	}
	a.must(a.Close())
	b := start(t, keeping(dir))
	if got := b.Taken(); got.Afresh != "" {
		t.Errorf("%+v", got)
	}
}

// TestStateLinks: what stands in the place of a file and leads to another is replaced, and the
// other stays as it is.
func TestStateLinks(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "state")
	a := start(t, keeping(whole))
	a.serve(service("TCP "+vip4+":80", "rr"), 1)
	for _, name := range []string{"names", "names.new", "table.0", "counts.0", "zeros"} {
		for what, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
			dir, victim := crash(t, whole), filepath.Join(t.TempDir(), "victim")
			path := filepath.Join(dir, name)
			text, _ := os.ReadFile(path) // so that what the link leads to could be believed
			_ = os.Remove(path)
			a.must(errors.Join(os.WriteFile(victim, text, 0o600), link(victim, path)))
			b := start(t, keeping(dir))
			b.serve(service("TCP "+vip4+":80", "rr"), 1)
			b.serve(service("TCP "+vip4+":81", "rr"), 1)
			if got := b.Taken().Afresh; (got == "") != (name == "names.new") {
				t.Errorf("%s is a %s link: taken over, or not: %q", name, what, got)
			}
			if err := b.StateError(); err != nil {
				t.Errorf("%s is a %s link: %v", name, what, err)
			}
			if now, err := os.ReadFile(victim); err != nil || string(now) != string(text) {
				t.Errorf("%s is a %s link: the other file has %d bytes instead of %d: %v", name, what, len(now), len(text), err)
			}
		}
	}
}

// What cannot be taken over is replaced, the reason is told, and what comes then is kept.
func TestTakeoverAfresh(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a := start(t, keeping(dir))
	a.now = second
	a.serveAll(everything(false, 1), 1)
	a.talks()
	write := func(name string, text string) func(string) {
		return func(dir string) { a.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)) }
	}
	truncate := func(name string, size int64) func(string) {
		return func(dir string) { a.must(os.Truncate(filepath.Join(dir, name), size)) }
	}
	for _, c := range []struct {
		says   string
		damage func(dir string)
		config func(*forwarder.Config)
	}{
		{"not a file of names", write("names", strings.Repeat("somebody else's ", 100)), nil},
		{"the header is missing", write("names", ""), nil},
		{"the header is missing", truncate("names", 30), nil},
		{"the header is damaged", func(dir string) {
			text, _ := os.ReadFile(filepath.Join(dir, "names"))
			text[40] ^= 1
			write("names", string(text))(dir)
		}, nil},
		{"another version", func(dir string) {
			text, _ := os.ReadFile(filepath.Join(dir, "names"))
			text[16]++
			write("names", string(text))(dir)
		}, nil},
		{"the header is missing", truncate("table.0", 0), nil},
		{"was truncated", truncate("table.0", 5000), nil},
		{"not a connection table", write("table.0", strings.Repeat("somebody else's ", 10000)), nil},
		{"no such file", func(dir string) { a.must(os.Remove(filepath.Join(dir, "table.0"))) }, nil},
		{"was rebooted", nil, func(c *forwarder.Config) { c.State.Boot[0]++ }},
		{"in the future, or too old", nil, func(c *forwarder.Config) { c.State.Now += int64(500 * 24 * time.Hour); c.Epoch = c.State.Now }},
		{"workers changed from 1 to 2", nil, func(c *forwarder.Config) { c.Workers = 2 }},
		{"changed from 1024 to 2048", nil, func(c *forwarder.Config) { c.Flows = 2048 }},
	} {
		left := crash(t, dir)
		if c.damage != nil {
			c.damage(left)
		}
		var now int64
		config := func(x *forwarder.Config) {
			if c.config != nil {
				c.config(x)
			}
			now = x.State.Now
		}
		b := start(t, keeping(left, config))
		if got := b.Taken(); !strings.Contains(got.Afresh, c.says) || got.Flows != 0 {
			t.Errorf("taken over: %+v, should say %q", got, c.says)
		}
		b.now = now
		b.serveAll(everything(false, 1), 1)
		b.give(talk4(1, 80).tcp(frame.SYN))
		b.must(b.Close())
		d := start(t, keeping(left, config))
		if got := d.Taken(); got.Afresh != "" || got.Flows != 1 {
			t.Errorf("after %q the next takes over %+v", c.says, got)
		}
	}
	// A file whose counters are another's is no reason to lose connections.
	left := crash(t, dir)
	truncate("counts.0", 100)(left)
	write("zeros", "?")(left)
	b := start(t, keeping(left))
	if got := b.Taken(); got.Afresh != "" || got.Flows != 100 {
		t.Errorf("with damaged counters: %+v", got)
	}
}

// Whatever stands in the files, an engine can be made of them, and works.
func TestTakeoverOfDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a := start(t, keeping(dir))
	a.now = second
	a.serveAll(everything(false, 1, 2, 3), 1, 2, 3)
	frames := a.talks()
	taken := 0
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 1))
		left := crash(t, dir)
		for _, name := range []string{"names", "table.0", "counts.0", "zeros"} {
			f, err := os.OpenFile(filepath.Join(left, name), os.O_RDWR, 0)
			a.must(err)
			info, err := f.Stat()
			a.must(err)
			for range r.IntN(300) {
				at := r.Int64N(info.Size())
				if name == "table.0" { // mostly where there is something
					at = 4096 + r.Int64N(info.Size()-4096)
				}
				if name == "names" && r.IntN(100) != 0 {
					break
				}
				_, err := f.WriteAt([]byte{byte(r.Uint32())}, at)
				a.must(err)
			}
			a.must(f.Close())
		}
		b := start(t, keeping(left, func(c *forwarder.Config) { c.State.Now = a.now }))
		got := b.Taken()
		if got.Afresh == "" && got.Flows > 0 {
			taken++
		}
		b.now = a.now
		b.serveAll(everything(seed%2 == 0, 1, 2, 3), 1, 2, 3)
		for _, f := range frames {
			b.give(f)
		}
		b.talks()
		b.conns()
		b.Services()
		for range 20 {
			b.after(15 * time.Minute)
			b.after(time.Second)
		}
		// What is left had its deadline changed to a later one. It must be counted.
		still := b.conns()
		for _, s := range b.Services() {
			for _, d := range s.Destinations {
				flows, templates := int32(0), int32(0)
				for _, c := range still {
					if c.Service == s.Key() && c.Destination.Addr() == d.Addr {
						if c.Template {
							templates++
						} else {
							flows++
						}
					}
				}
				if d.Active+d.Inactive != flows || d.Persistent != templates {
					t.Fatalf("seed %d: %s: %+v, but there are %d flows and %d templates", seed, s.Key(), d, flows, templates)
				}
			}
		}
	}
	if taken < 12 {
		t.Errorf("only %d of 25 were taken over: this tests little", taken)
	}
}

// The same is true of any file of names: TestTakeoverOfDamage changes few, since most changes are
// found by a checksum.
func FuzzNames(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "state")
	a := newRig(f, keeping(dir))
	a.serveAll(everything(false, 1), 1)
	text, err := os.ReadFile(filepath.Join(dir, "names"))
	a.must(err)
	a.must(a.Close())
	f.Add(text[80:])
	head := text[:80]
	f.Fuzz(func(t *testing.T, records []byte) {
		b := slices.Clone(head)
		b = append(b, records...)
		for at := len(head); at+8 <= len(b); { // checksums that are right
			n := int(binary.NativeEndian.Uint32(b[at:]))
			if n > len(b)-at-8 || n < 0 {
				break
			}
			binary.NativeEndian.PutUint32(b[at+4:], forwarder.NamesChecksum(b[at+8:at+8+n]))
			at += 8 + n
		}
		forwarder.ParseNames(b)
	})
}
