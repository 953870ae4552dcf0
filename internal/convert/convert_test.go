package convert

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/internal/config"
	"shunt/internal/ipvsadm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testNames are names of ports that do not depend on the host's /etc/services.
type testNames struct{ ipvsadm.Names }

func (testNames) Port(service string, _ string) (uint16, bool) {
	n, ok := map[string]uint16{"http": 80, "https": 443, "domain": 53, "http-alt": 8080, "postgresql": 5432, "sip": 5060}[service]
	return n, ok
}

// golden compares a text with a golden file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}

// converted converts a file of testdata as a user would, and returns the result with its notes.
func converted(t *testing.T, name string) (Result, string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	result, err := convert(name, text, Options{ConfigID: "main"}, realDisk, testNames{})
	if err != nil {
		t.Fatalf("%v\n%s\n%v", err, result.Config, result.Notes)
	}
	if _, err := config.Parse("shunt.yaml", result.Config); err != nil {
		t.Errorf("shunt check would refuse it: %v", err)
	}
	var b bytes.Buffer
	b.Write(result.Config)
	for _, n := range result.Notes {
		fmt.Fprintf(&b, "## %s\n", n)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	return result, strings.ReplaceAll(b.String(), here, "HERE")
}

// What becomes of whole files: the configuration, and the notes. Those of testdata/field went wrong
// once.
func TestGolden(t *testing.T) {
	names := []string{"testdata/full.conf", "testdata/saved.ipvsadm", "testdata/ldirectord.cf", "testdata/flags.rules"}
	for _, p := range []string{"testdata/field/*.conf", "testdata/field/*.cf", "testdata/field/*.rules", "testdata/field/*/*.conf"} {
		found, err := filepath.Glob(p)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", p, err)
		}
		names = append(names, found...)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			_, got := converted(t, name)
			golden(t, name+".golden", got)
		})
	}
}

// Each service and each realserver is in the result, or a note tells of it.
func TestNothingIsLostQuietly(t *testing.T) {
	var names []string
	for _, p := range []string{"testdata/*.conf", "testdata/*.cf", "testdata/*.ipvsadm", "testdata/field/*.conf", "testdata/keepalived/*.conf", "testdata/ldirectord/*.cf"} {
		found, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) { nothingLost(t, name) })
	}
}

func nothingLost(t *testing.T, name string) {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r := newResult(testNames{})
	if err := r.read(name, text, Options{ConfigID: "main"}, realDisk); err != nil {
		t.Fatal(err)
	}
	out, err := r.write(name, "")
	noted := map[place]bool{}
	for _, n := range r.notes {
		if n.Loss {
			noted[place{n.File, n.Line}] = true
		}
	}
	there := inResult(t, out, err)
	for _, s := range r.services {
		key := fmt.Sprintf("%s %s %d", s.Protocol, s.Address, s.Port)
		if s.Mark != 0 {
			key = fmt.Sprintf("mark %d", s.Mark)
		}
		if _, ok := there[key]; !ok && !noted[s.place] {
			t.Errorf("%s of line %d is not in the result, and no note says so", s, s.line)
		} else if !ok {
			continue
		}
		for _, x := range s.reals {
			if !there[key][x.Address] && !noted[x.place] {
				t.Errorf("%s: realserver %s of line %d is not in the result, and no note says so", s, x.Address, x.line)
			}
		}
	}
}

// inResult are the services of a configuration with their realservers; none if it has none.
func inResult(t *testing.T, text []byte, failed error) map[string]map[netip.Addr]bool {
	out := map[string]map[netip.Addr]bool{}
	if failed != nil {
		return out
	}
	cfg, err := config.Parse("result", text)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range cfg.Services {
		m := s.Matches[0]
		port := m.First
		if m.First != m.Last {
			port = 0
		}
		key := fmt.Sprintf("%s %s %d", strings.ToUpper(m.Proto.String()), m.Addr, port)
		if s.Mark != 0 {
			key = fmt.Sprintf("mark %d", s.Mark)
		}
		out[key] = map[netip.Addr]bool{}
		for _, x := range s.Realservers {
			out[key][x.Address] = true
		}
	}
	return out
}

// The services of a converted file are those that were meant.
func TestMeaning(t *testing.T) {
	result, _ := converted(t, "testdata/full.conf")
	cfg, err := config.Parse("shunt.yaml", result.Config)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Legs[0].Interface; got != "bond0" {
		t.Errorf("interface %s", got)
	}
	s := cfg.Services[0]
	if s.Scheduler != "wrr" || s.Persistence.Seconds() != 600 || len(s.Realservers) != 4 || s.Realservers[0].Weight != 3 || s.Realservers[1].Upper != 1000 || s.Realservers[1].Lower != 800 {
		t.Errorf("first service: %+v", s)
	}
	if cfg.Settings.TCPTimeout.Seconds() != 1800 || cfg.Settings.TCPFinTimeout.Seconds() != 60 || cfg.Settings.UDPTimeout.Seconds() != 120 {
		t.Errorf("timeouts: %+v", cfg.Settings)
	}
}

// A bad line, and a service that cannot be, do not keep the others from being converted.
func TestOneBadLine(t *testing.T) {
	const good = "virtual_server 10.0.0.9 80 {\n lvs_sched rr\n lvs_method DR\n protocol TCP\n real_server 10.0.1.9 80 {\n }\n}\n"
	for _, bad := range []string{
		"virtual_server 0.0.0.0 80 {\n lvs_method DR\n protocol TCP\n real_server 10.0.1.1 80 {\n }\n}\n",
		"virtual_server 127.0.0.1 80 {\n lvs_method DR\n real_server 10.0.1.1 80 {\n }\n}\n",
		"virtual_server ::ffff:10.0.0.1 80 {\n lvs_method DR\n real_server 2001:db8::1 80 {\n }\n}\n",
		"virtual_server 224.0.0.1 80 {\n lvs_method DR\n real_server 10.0.1.1 80 {\n }\n}\n",
		"virtual_server 10.0.0.1 80 {\n lvs_method DR\n real_server 10.0.0.9 80 {\n }\n}\n",
		"virtual_server 10.0.0.1 80 {\n lvs_method DR\n persistence_granularity 255.0.255.0\n real_server 10.0.1.1 80 {\n }\n}\n",
		"virtual_server 10.0.0.1 80 {\n lvs_method DR\n persistence_timeout 9\n persistence_engine sip\n real_server 10.0.1.1 80 {\n }\n}\n",
		"virtual_server 10.0.0.1 80 {\n real_server 10.0.1.1 80 {\n }\n}\n",
		"virtual_server www.example.com 80 {\n real_server 10.0.1.1 80 {\n }\n}\n",
		"virtual_server fwmark 7 {\n lvs_method DR\n real_server 10.0.1.1 80 {\n }\n}\n",
		"virtual_server 10.0.0.1 80 {\n lvs_method DR\n real_server 10.0.1.1 80 {\n uthreshold 5\n lthreshold 9\n }\n}\n",
		"virtual_server 10.0.0.1 80 {\n lvs_method DR\n sorry_server 10.0.1.8\n}\n",
		"}\n", "{\n}\n", "static_routes {\n}\n", "~SEQ(\n", "~LST(a)\n", "include nowhere.conf\n", "foo { bar {\n}\n}\n", "\"\n",
	} {
		for _, text := range []string{bad + good, good + bad} {
			result, err := convert("k", []byte(text), Options{Format: "keepalived", ConfigID: "x"}, noDisk, testNames{})
			if err != nil || result.Losses() == 0 {
				t.Errorf("%q: %v, notes %v", text, err, result.Notes)
				continue
			}
			cfg, err := config.Parse("k", result.Config)
			if err != nil || len(cfg.Services) != 1 || cfg.Services[0].Matches[0].Addr.String() != "10.0.0.9" {
				t.Errorf("%q: %v\n%s", text, err, result.Config)
			}
		}
	}
}

// noDisk has no files.
var noDisk = disk{
	read: func(string) ([]byte, error) { return nil, os.ErrNotExist },
	glob: func(string) ([]string, error) { return nil, nil },
}

// What is wrong is told by file and line.
func TestNotes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"virtual_server 10.0.0.1 80 {\n real_server 10.0.0.2 80 {\n", "k:2: the block that begins here is not closed"},
		{"}\n", "k:1: a closing brace without an opening one"},
		{"{\n", "k:1: an unexpected brace"},
		{"include k\n", "k:1: include k: the file includes itself"},
		{"virtual_server group g {\n}\n", "k:1: virtual_server group g: there is no such virtual_server_group"},
		{"virtual_server 10.0.0.1-300 80 {\n}\n", "k:1: note: virtual_server 10.0.0.1-300 80: keepalived takes the first address only"},
		{"virtual_server_group g {\n 10.0.0.1-300 80\n}\n", "k:2: 10.0.0.1-300 80: it is no range of addresses upwards"},
		{"virtual_server 10.0.0.1 80 {\n lvs_method DR\n protocol GRE\n}\n", "k:3: note: protocol GRE: there are TCP, UDP and SCTP: keepalived ignores the line"},
		{"static_routes {\n}\n", "k:1: static_routes: no counterpart"},
		{"virtual_server 10.0.0.1 80 {\n real_server 10.0.0.2 80 {\n  weight\n }\n}\n", "weight: it lacks its value: keepalived would not start"},
		{"virtual_server 10.0.0.1 http {\n}\n", "k:1: virtual_server 10.0.0.1 http: it is no address and port"},
		{"$A=$B\n$B=$A\nvirtual_server $A 80 {\n}\n", "k:3: the definitions in this line do not end"},
		{"~SEQ(N, 1, 1000000) 10.0.0.$N\n", "definitions and sequences make too many lines"},
		{"virtual_server 10.0.0.1 80 {\n lvs_method DR\n real_server 10.0.0.2 80 {\n  HTTP_GET {\n  }\n }\n real_server 10.0.0.3 80 {\n  HTTP_GET {\n  }\n  TCP_CHECK\n }\n}\n",
			"k:4: HTTP_GET (also line 8): health checks are not converted"},
	} {
		d := disk{
			read: func(string) ([]byte, error) { return []byte(c.text), nil },
			glob: func(p string) ([]string, error) { return []string{p}, nil },
		}
		result, err := convert("k", []byte(c.text), Options{Format: "keepalived", ConfigID: "x", limits: limits{steps: 2000, services: 50}}, d, testNames{})
		var all []string
		for _, n := range result.Notes {
			all = append(all, n.String())
		}
		if !strings.Contains(strings.Join(all, "\n"), c.want) {
			t.Errorf("%q: %v, notes %q, want %q", c.text, err, all, c.want)
		}
	}
	if _, err := Text("x", []byte("a"), Options{Format: "haproxy"}); err == nil || !strings.Contains(err.Error(), "there are keepalived, ipvsadm, ldirectord") {
		t.Errorf("unknown format: %v", err)
	}
}

// A file without end is not read for ever, be it named or included.
func TestBoundedReading(t *testing.T) {
	if _, err := File("/dev/zero", Options{}); err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("/dev/zero: %v", err)
	}
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("k", "include /dev/zero\ninclude "+dir+"\ninclude program\ninclude missing\n", 0o644)
	write("program", "virtual_server 10.0.0.1 80 {\n real_server 10.0.0.2 80 {\n}\n}\n", 0o755)
	result, err := File(filepath.Join(dir, "k"), Options{})
	if err == nil || len(result.Notes) != 4 {
		t.Fatalf("%v %v", err, result.Notes)
	}
	for i, want := range []string{"not a regular file", "not a regular file", "executable", "not exist"} {
		if n := result.Notes[i]; n.Line != i+1 || !strings.Contains(n.Text, want) {
			t.Errorf("%v: want %s", n, want)
		}
	}
}

// FuzzConvert: no text makes a parser panic or run away; what comes out without an error is a valid
// configuration, and every note points into the text.
func FuzzConvert(f *testing.F) {
	for _, name := range []string{"full.conf", "saved.ipvsadm", "ldirectord.cf", "field/keepalived-multiline-def.conf", "field/keepalived-seq-lst.conf",
		"field/keepalived-conditional.conf", "field/keepalived-vsg-ranges.conf", "field/ldirectord-schedflags-thresholds.cf"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		for i := range Formats {
			f.Add(text, uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, format uint8) {
		opt := Options{Format: Formats[int(format)%len(Formats)], ConfigID: "main", limits: limits{steps: 2000, services: 50}}
		d := disk{
			read: func(string) ([]byte, error) { return []byte("real_server 10.0.0.7 80 {\n$A=$B\n}"), nil },
			glob: func(p string) ([]string, error) {
				if strings.Contains(p, "nothing") {
					return nil, nil
				}
				return []string{"other"}, nil
			},
		}
		result, err := convert("file", text, opt, d, testNames{})
		if err == nil {
			if _, err := config.Parse("out", result.Config); err != nil {
				t.Errorf("%v\n%s", err, result.Config)
			}
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		for _, n := range result.Notes {
			if n.Line < 1 || n.Line > lines {
				t.Errorf("a note about line %d of %d: %s", n.Line, lines, n)
			}
		}
		if again, _ := convert("file", text, opt, d, testNames{}); !cmp.Equal(result, again) {
			t.Error("it is not the same when it is done again")
		}
	})
}
