package forwarder_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// TestGolden replays what a Linux kernel was seen to do (testdata/golden) through an Engine. Each
// event of a trace is compared with what the engine does, or is excused by the table in
// golden_excuses_test.go, or the test fails; an excuse that nothing needs fails too. SHUNT_GOLDEN
// names further directories of traces, separated as in PATH.
func TestGolden(t *testing.T) {
	excuses := newExcuses()
	var total tally
	for n, dir := range append([]string{"../testdata/golden"}, filepath.SplitList(os.Getenv("SHUNT_GOLDEN"))...) {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no traces in %s: %v", dir, err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".json")
			t.Run(name, func(t *testing.T) {
				excuses.counting = n == 0
				if n == 0 {
					excuses.ran[name[:2]] = true
				}
				c := replay(t, file, name, excuses)
				t.Logf("%s", c)
				total.add(c)
			})
		}
	}
	t.Logf("all scenarios: %s", total)
	for _, line := range excuses.report(t) {
		t.Log(line)
	}
}

// tally counts events.
type tally struct {
	compared int // agreed with the engine
	carried  int // sysctls and resets: carried out, there is nothing to compare
	excused  int
	failed   int
}

func (c *tally) add(o tally) {
	c.compared += o.compared
	c.carried += o.carried
	c.excused += o.excused
	c.failed += o.failed
}

func (c tally) String() string {
	return fmt.Sprintf("%d compared, %d carried out, %d excused, %d failed", c.compared, c.carried, c.excused, c.failed)
}

// event is one line of a trace. Which fields are set depends on Op.
type event struct {
	T       float64
	Op      string
	Section string // reset_director
	Label   string
	Note    string

	Cmd, Stdin, Out, NS string // cmd
	RC                  int

	Key   string // sysctl
	Value int

	Tx    packet // pkt, pkt_hex
	TxHex string `json:"tx_hex"`
	To    json.RawMessage
	Rx    []packet

	Outputs  map[string]string // snap
	Requests [][2]any          // http
	Rows     json.RawMessage   // hash_sweep, transition_table, counter_table
	History  json.RawMessage   // expiry_history, reenable
	Conns    json.RawMessage   // timer_history

	ReuseMode int `json:"conn_reuse_mode"` // transition_table

	line int
}

type trace struct {
	Scenario string
	Events   []json.RawMessage
}

// errCarriedOut is what director.replay returns for an event that changes the director and shows
// nothing.
var errCarriedOut = errors.New("carried out")

// replay runs one scenario.
func replay(t *testing.T, file, name string, excuses *excuses) (c tally) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var tr trace
	if err := json.Unmarshal(raw, &tr); err != nil {
		t.Fatal(err)
	}
	d := newDirector(t)
	defer func() { d.close() }()
	section := ""
	for i, line := range tr.Events {
		e := event{line: i + 4} // as in the file: three lines precede the events
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s:%d: %v", name, e.line, err)
		}
		if e.Op == "reset_director" {
			section = e.Section
			d.close()
			d = newDirector(t)
		}
		if e.Op != "expiry_history" { // which tells of the time before it
			d.advance(e.T)
		}
		switch err := d.replay(&e); {
		case err == nil:
			c.compared++
		case errors.Is(err, errCarriedOut):
			c.carried++
		case excuses.find(name[:2], section, &e):
			c.excused++
		default:
			c.failed++
			t.Errorf("%s:%d: %s %q %q at %.3f s: %v", name, e.line, e.Op, section, e.text(), e.T, err)
		}
	}
	return c
}

// text is what an event says of itself.
func (e *event) text() string {
	return strings.TrimSpace(e.Label + " " + e.Note + " " + e.Cmd + " " + e.Key)
}

// director is an engine with the laboratory's addresses.
type director struct {
	t        testing.TB
	engine   *forwarder.Engine
	settings forwarder.Settings
	now      int64
	marks    []markRule
	history  []moment
	ports    uint16 // of flows that the traces do not name
	parts    map[int]*parts
	live     map[netip.Addr]bool // realservers' addresses that answer ARP
}

const (
	clientMAC = "02:00:00:00:00:10"
	ownMAC    = "02:00:00:00:00:02"
	vlanLeg   = frame.Leg(1) // eth0.10 of scenario 12
)

func newDirector(t testing.TB) *director {
	d := &director{t: t, settings: forwarder.DefaultSettings(), ports: 30000, live: map[netip.Addr]bool{}}
	d.settings.Source = forwarder.SourceOwn // as the kernel
	legs := []forwarder.Leg{{Name: "eth0", MAC: mac(ownMAC)}, {Name: "eth0.10", MAC: mac(ownMAC), VLAN: 10}}
	e, err := forwarder.New(forwarder.Config{
		Legs: legs, Flows: 4096, Seed: [2]uint64{1, 2}, Exact: true, Settings: d.settings,
		Clock: func() time.Time { return time.Unix(0, d.now) },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.engine = e
	for n := 1; n <= 4; n++ {
		for _, a := range []string{"10.77.0.1", "fd00:77::1"} {
			d.setNeighbour(0, addr(fmt.Sprint(a, n)), mac(fmt.Sprint("02:00:00:00:00:1", n)))
		}
	}
	return d
}

func (d *director) setNeighbour(leg frame.Leg, a netip.Addr, m frame.MAC) {
	d.must(d.engine.SetNeighbour(leg, a, m))
	d.live[a] = true
}

func (d *director) must(err error) {
	if err != nil {
		d.t.Helper()
		d.t.Fatal(err)
	}
}

func (d *director) close() { d.must(d.engine.Close()) }

// advance moves the time on; flows end.
func (d *director) advance(seconds float64) {
	d.now = max(d.now, int64(seconds*1e9))
	d.engine.Worker(0).Process(nil, d.now)
}

// replay carries out an event and compares what it can see of it. It returns nil if all agrees.
func (d *director) replay(e *event) error {
	switch e.Op {
	case "reset_director":
		return errCarriedOut
	case "sysctl":
		return d.sysctl(e.Key, e.Value)
	case "cmd":
		return d.command(e)
	case "pkt", "pkt_hex":
		return d.packet(e)
	case "sequence":
		return d.sequence(e)
	case "http":
		return d.http(e)
	case "hash_sweep":
		return d.sweep(e)
	case "snap":
		return d.snap(e)
	case "transition_table":
		return d.transitions(e)
	case "counter_table":
		return d.counters(e)
	case "timer_history":
		return d.timers(e)
	case "expiry_history":
		return d.expiries(e)
	case "reenable":
		return d.reenable(e)
	}
	return fmt.Errorf("events %q are not compared", e.Op)
}

// packet sends the frame of an event and compares who received what.
func (d *director) packet(e *event) error {
	// What the switch flooded, because the frame was not for one MAC, has the client's MAC still:
	// not the director's work.
	rx := slices.DeleteFunc(slices.Clone(e.Rx), func(p packet) bool { return p.EthSrc != ownMAC })
	raw, err := e.frame()
	d.must(err)
	before := d.conns()
	out, err := d.send(raw)
	got := receivers(out)
	m := moment{t: e.T, tx: e.Tx, to: got, before: before, conns: d.conns(), rows: d.destRows()}
	d.history = append(d.history, m)
	if err != nil {
		return err
	}
	if e.Tx.Frag != nil {
		return d.fragment(e, out, rx)
	}
	want := "none"
	for i, p := range rx {
		if want += "," + p.At; i == 0 {
			want = p.At
		}
	}
	if strings.HasPrefix(got, "rs") && strings.HasPrefix(want, "rs") && d.random() {
		return nil // sequence compares the shares
	}
	if want = sorted(want); got != want {
		return fmt.Errorf("went to %s, the kernel's to %s", got, want)
	}
	return compareFrames(out, rx)
}

// send gives a frame to the engine and returns copies of those that come out. A forwarded frame
// must be the same but for its MACs.
func (d *director) send(raw []byte) ([]frame.Frame, error) {
	f := wire(raw)
	f.Time = d.now
	sent := f
	sent.Buf = slices.Clone(f.Buf)
	if f.Buf[12] == 0x08 && len(f.Buf) >= 22 && binary.BigEndian.Uint16(f.Buf[20:])&0x3fff != 0 {
		g := d.datagram(int(binary.BigEndian.Uint16(f.Buf[18:])))
		g.sent = append(g.sent, sent)
	}
	var out []frame.Frame
	for _, o := range d.engine.Worker(0).Process([]frame.Frame{f}, d.now) {
		o.Buf = slices.Clone(o.Buf)
		out = append(out, o)
		if !strings.HasPrefix(receiver(o), "rs") {
			continue
		}
		if o.Src() != mac(ownMAC) || !d.unchanged(o, sent) {
			return out, fmt.Errorf("the frame was changed: %x became %x", sent.Buf, o.Buf)
		}
	}
	return out, nil
}

// receiver names who gets a frame.
func receiver(f frame.Frame) string {
	m := f.Dst()
	switch {
	case m == mac(clientMAC):
		return "client"
	case m[5]>>4 == 1 && m[5]&15 <= 4:
		return fmt.Sprintf("rs%d", m[5]&15)
	}
	return m.String()
}

func receivers(out []frame.Frame) string {
	if len(out) == 0 {
		return "none"
	}
	var names []string
	for _, f := range out {
		names = append(names, receiver(f))
	}
	return sorted(strings.Join(names, ","))
}

func sorted(list string) string {
	names := strings.Split(list, ",")
	sort.Strings(names)
	return strings.Join(names, ",")
}

// sequence compares the destinations of the last new flows, which the packets before it began.
func (d *director) sequence(e *event) error {
	var want, got []string
	d.must(json.Unmarshal(e.To, &want))
	for _, m := range slices.Backward(d.history) {
		if m.tx.opens() && len(got) < len(want) {
			got = append(got, m.to)
		}
	}
	slices.Reverse(got)
	if d.random() {
		return compareShares(got, want)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("got  %s\nwant %s", got, want)
	}
	return nil
}

// random reports whether the service chooses at random.
func (d *director) random() bool {
	return slices.ContainsFunc(d.engine.Services(), func(s forwarder.ServiceInfo) bool { return s.Scheduler == "twos" })
}

// compareShares compares how often each destination was chosen, which for the lengths of the
// traces' sequences varies by less than 15 of a hundred.
func compareShares(got, want []string) error {
	share := map[string]int{}
	for i := range got {
		share[got[i]]++
		share[want[i]]--
	}
	for name, n := range share {
		if n*100 > 15*len(want) || -n*100 > 15*len(want) {
			return fmt.Errorf("%s was chosen %+d times as against the kernel, of %d", name, n, len(want))
		}
	}
	return nil
}
