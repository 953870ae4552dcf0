package convert

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What becomes of whole files: the configuration, and what could not be converted.
func TestGolden(t *testing.T) {
	for _, name := range []string{"full.conf", "saved.ipvsadm", "ldirectord.cf"} {
		t.Run(name, func(t *testing.T) {
			text, notes, err := File("testdata/"+name, Options{})
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if _, err := config.Parse("shunt.yaml", text); err != nil {
				t.Errorf("shunt check would refuse it: %v", err)
			}
			var b bytes.Buffer
			b.Write(text)
			for _, n := range notes {
				fmt.Fprintf(&b, "## %s\n", n)
			}
			golden := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), b.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

// The services of a converted file are those that were meant.
func TestMeaning(t *testing.T) {
	text, _, err := File("testdata/full.conf", Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("shunt.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Legs[0].Interface; got != "bond0" {
		t.Errorf("interface %s", got)
	}
	s := cfg.Services[0]
	if s.Scheduler != "wrr" || s.Persistence.Seconds() != 600 || len(s.Realservers) != 2 || s.Realservers[0].Weight != 3 || s.Realservers[1].Upper != 1000 || s.Realservers[1].Lower != 800 {
		t.Errorf("first service: %+v", s)
	}
	if cfg.Settings.TCPTimeout.Seconds() != 1800 || cfg.Settings.TCPFinTimeout.Seconds() != 60 || cfg.Settings.UDPTimeout.Seconds() != 120 {
		t.Errorf("timeouts: %+v", cfg.Settings)
	}
	if len(cfg.Services) != 7 { // web, https, four of the group, ftp
		t.Errorf("%d services", len(cfg.Services))
	}
}

// What is wrong is told by file and line.
func TestNotes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"virtual_server 10.0.0.1 80 {\n real_server 10.0.0.2 80 {\n", "k:2: the block that begins here is not closed"},
		{"}\n", "k:1: a closing brace without an opening one"},
		{"{\n", "k:1: a brace that belongs to nothing"},
		{"include k\n", "k:1: include k: the file includes itself"},
		{"virtual_server group g {\n}\n", "k:1: virtual_server group g: there is no such virtual_server_group"},
		{"virtual_server 10.0.0.1-300 80 {\n}\n", "k:1: 10.0.0.1-300 is not understood as a range"},
		{"virtual_server 10.0.0.1 80 {\n lvs_method DR\n protocol GRE\n}\n", `k:1: service GRE 10.0.0.1:80: there is no protocol "gre"`},
		{"virtual_server 10.0.0.1 0 {\n lvs_method DR\n real_server 10.0.0.2 0 {\n}\n}\n", "k:1: service TCP 10.0.0.1:0: a service of all ports needs persistence"},
		{"static_routes {\n}\n", "k:1: static_routes: no counterpart"},
	} {
		_, notes, err := convert("k", []byte(c.text), Options{Format: "keepalived"}, func(string) ([]byte, error) { return []byte(c.text), nil },
			func(p string) ([]string, error) { return []string{p}, nil })
		if err == nil {
			t.Errorf("%q: no error, though there is no service", c.text)
		}
		var all []string
		for _, n := range notes {
			all = append(all, n.String())
		}
		if !strings.Contains(strings.Join(all, "\n"), c.want) {
			t.Errorf("%q: notes %q, want %q", c.text, all, c.want)
		}
	}
	if _, _, err := Text("x", []byte("a"), Options{Format: "haproxy"}); err == nil || !strings.Contains(err.Error(), "there are keepalived, ipvsadm, ldirectord") {
		t.Errorf("unknown format: %v", err)
	}
}

// FuzzConvert: no text makes a parser panic or run away; what comes out without an error is a valid configuration, and every
// note points into the text.
func FuzzConvert(f *testing.F) {
	for _, name := range []string{"full.conf", "saved.ipvsadm", "ldirectord.cf"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint8(0))
		f.Add(text, uint8(1))
		f.Add(text, uint8(2))
	}
	f.Fuzz(func(t *testing.T, text []byte, format uint8) {
		opt := Options{Format: Formats[int(format)%len(Formats)]}
		read := func(string) ([]byte, error) { return []byte("real_server 10.0.0.7 80 {\n$A=$B\n}"), nil }
		glob := func(p string) ([]string, error) {
			if strings.Contains(p, "nothing") {
				return nil, errors.Join(fs.ErrNotExist)
			}
			return []string{"other"}, nil
		}
		out, notes, err := convert("file", text, opt, read, glob)
		if err == nil {
			if _, err := config.Parse("out", out); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		for _, n := range notes {
			if n.Line < 1 || n.Line > lines {
				t.Errorf("a note about line %d of %d: %s", n.Line, lines, n)
			}
		}
	})
}
