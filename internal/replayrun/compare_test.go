package replayrun_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"shunt/internal/config"
	"shunt/internal/replayrun"
)

// compared compares two configurations over a capture, and checks what holds for each comparison:
// it adds up, and each side is what a replay with that side's configuration alone tells.
func compared(t *testing.T, in string, first, second *config.Config, all bool) *replayrun.Comparison {
	t.Helper()
	opt := replayrun.CompareOptions{Options: replayrun.Options{Config: first, Input: in, Strict: true, All: all}, Second: second}
	c, err := replayrun.Compare(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	adds(t, c)
	verdicts := [2]map[string]uint64{{}, {}}
	packets := uint64(0)
	for _, v := range c.Verdicts {
		verdicts[0][v.First] += v.Count
		verdicts[1][v.Second] += v.Count
		packets += v.Count
	}
	if packets != c.Capture.Packets {
		t.Errorf("%d packets were read, and %d have verdicts", c.Capture.Packets, packets)
	}
	for i, cfg := range []*config.Config{first, second} {
		r, err := replayrun.Run(t.Context(), replayrun.Options{Config: cfg, Input: in, Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		alone := map[string]uint64{}
		for _, v := range r.Verdicts {
			alone[v.Name] = v.Count
		}
		if !reflect.DeepEqual(alone, verdicts[i]) {
			t.Errorf("side %d: verdicts %v, and alone %v", i+1, verdicts[i], alone)
		}
		var want, got []replayrun.Destination
		for _, s := range r.Services {
			want = append(want, s.Realservers...)
			for _, x := range c.Services {
				if x.Name != s.Name && !(i == 1 && x.Name == "shop" && s.Name == "store") {
					continue
				}
				for _, d := range s.Realservers {
					for _, y := range x.Realservers {
						if side := [2]*replayrun.Destination{y.First, y.Second}[i]; side != nil && y.Address == d.Address {
							got = append(got, *side)
						}
					}
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("side %d: realservers %+v, and alone %+v", i+1, got, want)
		}
		if table := [2]replayrun.Table{c.First.Table, c.Second.Table}[i]; !reflect.DeepEqual(table, r.Table) {
			t.Errorf("side %d: table %+v, and alone %+v", i+1, table, r.Table)
		}
	}
	return c
}

// adds checks the sums of a comparison.
func adds(t *testing.T, c *replayrun.Comparison) {
	t.Helper()
	var sum replayrun.Changes
	for _, s := range c.Services {
		f := &s.Flows
		kinds := map[string]uint64{}
		for _, x := range s.Changes {
			kinds[x.Kind] += x.Flows
		}
		if kinds["moved"] != f.Moved || kinds["only_first"] != f.OnlyFirst || kinds["only_second"] != f.OnlySecond {
			t.Errorf("%s: %+v, in detail %v", s.Name, s.Flows, kinds)
		}
		sum = replayrun.Changes{All: sum.All + f.All, Alike: sum.Alike + f.Alike, Moved: sum.Moved + f.Moved,
			OnlyFirst: sum.OnlyFirst + f.OnlyFirst, OnlySecond: sum.OnlySecond + f.OnlySecond}
	}
	if sum != c.Flows {
		t.Errorf("all services have %+v, together %+v", sum, c.Flows)
	}
	for _, f := range []replayrun.Changes{c.Flows, c.Templates} {
		if f.Alike+f.Moved+f.OnlyFirst+f.OnlySecond != f.All {
			t.Errorf("%+v", f)
		}
	}
	if uint64(len(c.Moved))+c.LeftOut != c.Flows.Moved {
		t.Errorf("%d moved flows are listed and %d left out, of %d", len(c.Moved), c.LeftOut, c.Flows.Moved)
	}
}

func comparisonText(t *testing.T, c *replayrun.Comparison) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGoldenCompare compares captures' configurations with others, and both reports with those that
// are right.
func TestGoldenCompare(t *testing.T) {
	for _, name := range []string{"changes.pcap", "long.pcap", "ipv6.pcapng"} {
		t.Run(name, func(t *testing.T) {
			base := strings.TrimSuffix(name, filepath.Ext(name))
			first, second := load(t, filepath.Join("testdata", base+".yaml")), load(t, filepath.Join("testdata", base+"-other.yaml"))
			for _, all := range []bool{false, true} {
				c := compared(t, capture(t, name), first, second, all)
				c.Capture.File, c.First.Config, c.Second.Config = name, "shunt.yaml", "other.yaml"
				c.First.Table.Memory, c.Second.Table.Memory = 64<<10, 64<<10
				var script bytes.Buffer
				if err := c.WriteJSON(&script); err != nil {
					t.Fatal(err)
				}
				if all {
					golden(t, filepath.Join("testdata", base+"-compare.json"), script.Bytes())
				} else {
					golden(t, filepath.Join("testdata", base+"-compare.txt"), []byte(comparisonText(t, c)))
				}
			}
		})
	}
}

// The examples of the documentation are what is printed.
func TestDocs(t *testing.T) {
	doc := read(t, "../../docs/replay.md")
	for _, name := range []string{"changes.txt", "changes-compare.txt"} {
		indented := "    " + strings.ReplaceAll(strings.TrimSuffix(string(read(t, filepath.Join("testdata", name))), "\n"), "\n", "\n    ")
		if !bytes.Contains(doc, []byte(strings.ReplaceAll(indented, "\n    \n", "\n\n")+"\n")) {
			t.Errorf("docs/replay.md has not what is in testdata/%s", name)
		}
	}
}

// A configuration moves nothing when it is compared with itself, and other legs move nothing
// either.
func TestCompareSame(t *testing.T) {
	for name := range captures {
		base := strings.TrimSuffix(name, filepath.Ext(name))
		cfg := load(t, filepath.Join("testdata", base+".yaml"))
		legs := load(t, filepath.Join("testdata", base+".yaml"))
		if len(legs.Legs) == 1 {
			legs.Legs = append([]config.Leg{{Name: "public", Interface: "x", Public: true}}, config.Leg{Name: "private", Interface: "y"})
		}
		for _, second := range []*config.Config{cfg, legs} {
			c := compared(t, capture(t, name), cfg, second, false)
			if c.Flows.Alike != c.Flows.All || c.Templates.Alike != c.Templates.All || len(c.Moved) > 0 {
				t.Errorf("%s: flows %+v, templates %+v", name, c.Flows, c.Templates)
			}
			flows := uint64(0)
			for _, s := range c.Services {
				for _, r := range s.Realservers {
					flows += r.First.Flows
				}
			}
			if flows != c.Flows.All {
				t.Errorf("%s: %d flows are compared, of %d", name, c.Flows.All, flows)
			}
			for _, v := range c.Verdicts {
				if v.First != v.Second {
					t.Errorf("%s: %+v", name, v)
				}
			}
		}
	}
}

// written puts a capture into a file.
func (w *wire) written() string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "in.pcap")
	if err := os.WriteFile(path, w.pcap(), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

const oneService = "legs: [{interface: a}]\nflows: 8192\nservices:\n  - {name: web, address: 203.0.113.10, port: 80, scheduler: wlc, realservers: [%s]}\n" +
	"  - {name: dns, address: 203.0.113.10, protocol: udp, port: 53, scheduler: rr, realservers: [{address: 10.0.0.11}, {address: 10.0.0.12}]}\n%s"

// A flow that one side takes up late is one flow, whatever the other side decided at first.
func TestCompareLate(t *testing.T) {
	w := &wire{t: t, now: begin.UnixNano()}
	syn := func(client string) { w.add(w.tcp(client, "203.0.113.10:80", "S", 0)) }
	syn("192.0.2.1:1000")
	syn("192.0.2.2:1000") // the second side has no room for it
	syn("192.0.2.3:1000") // nor for this one, whose client does not ask again
	w.now += 100 * time.Second.Nanoseconds()
	syn("192.0.2.2:1000")
	first := parse(t, fmt.Sprintf(oneService, "{address: 10.0.0.11}", "ipvs: {sloppy_tcp: true}"))
	for _, c := range []struct {
		realserver string
		want       replayrun.Changes
	}{
		{"10.0.0.11", replayrun.Changes{All: 4, Alike: 2, OnlyFirst: 2}},
		{"10.0.0.12", replayrun.Changes{All: 4, Moved: 2, OnlyFirst: 2}},
	} {
		second := parse(t, fmt.Sprintf(oneService, "{address: "+c.realserver+", upper: 1}", ""))
		// After the pause the first side's flow is over, too: it begins afresh at both.
		if got := compared(t, w.written(), first, second, true); got.Flows != c.want {
			t.Errorf("%+v, want %+v\n%s", got.Flows, c.want, comparisonText(t, got))
		}
	}
	w = &wire{t: t, now: begin.UnixNano()}
	syn("192.0.2.1:1000")
	for range 2 {
		syn("192.0.2.2:1000")
		w.add(w.tcp("192.0.2.2:1000", "203.0.113.10:80", "A", 0))
		w.now += 100 * time.Second.Nanoseconds()
	}
	second := parse(t, fmt.Sprintf(oneService, "{address: 10.0.0.12, upper: 1}", ""))
	got := compared(t, w.written(), first, second, true)
	if (got.Flows != replayrun.Changes{All: 2, Moved: 2}) || got.Moved[1].Seconds < 100 {
		t.Errorf("%+v\n%s", got.Flows, comparisonText(t, got))
	}
}

// Realservers of one MAC are told apart by their services; records of ended flows are dropped, and
// it makes no difference.
func TestCompareMany(t *testing.T) {
	w := &wire{t: t, now: begin.UnixNano()}
	for i := range 1500 {
		w.add(w.udp(fmt.Sprintf("192.0.2.%d:%d", i%200, 1000+i), "203.0.113.10:53", 10))
		if i%3 == 0 {
			w.add(w.udp(fmt.Sprintf("192.0.2.%d:%d", i%200, 1000+i), "203.0.113.10:53", 10))
		}
		w.now += time.Second.Nanoseconds()
	}
	in := w.written()
	first := parse(t, fmt.Sprintf(oneService, "{address: 10.0.0.99, mac: '02:00:0a:00:00:0b'}", ""))
	second := parse(t, fmt.Sprintf(oneService, "{address: 10.0.0.11}", "ipvs: {timeouts: {udp: 10s}}"))
	want := comparisonText(t, compared(t, in, first, second, false))
	if strings.Contains(want, "10.0.0.99  10") || !strings.Contains(want, "Flows     1500: 1500 alike") {
		t.Error(want)
	}
	defer replayrun.SetOpenRoom(7)()
	if got := comparisonText(t, compared(t, in, first, second, false)); got != want {
		t.Errorf("%s\nwant:\n%s", got, want)
	}
}

// Fragments that come before the first one of their datagram get its verdict, on either side.
func TestCompareFragments(t *testing.T) {
	w := &wire{t: t, now: begin.UnixNano()}
	for _, dst := range []string{"203.0.113.10:53", "203.0.113.10:54", "203.0.113.11:53"} {
		fragments(w, dst)
		n := len(w.packets)
		w.packets[n-2].data, w.packets[n-3].data = w.packets[n-3].data, w.packets[n-2].data
		w.packets[n-2].wire, w.packets[n-3].wire = w.packets[n-3].wire, w.packets[n-2].wire
		w.now += 31e9
	}
	first := parse(t, fmt.Sprintf(oneService, "{address: 10.0.0.11}", ""))
	second := parse(t, strings.ReplaceAll(fmt.Sprintf(oneService, "{address: 10.0.0.11}", ""), "port: 53", "port: 54"))
	compared(t, w.written(), first, second, true)
	third := parse(t, strings.ReplaceAll(fmt.Sprintf(oneService, "{address: 10.0.0.11}", ""), "203.0.113.10", "203.0.113.11"))
	compared(t, w.written(), first, third, true)
}
