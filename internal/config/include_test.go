package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// write makes files in a directory of the test's own, whose path it returns.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func service(name, vip string) string {
	return "services:\n  - {name: " + name + ", address: " + vip + ", port: 80, realservers: [{address: 10.10.0.11}]}\n"
}

// Lists of services are joined in the order of the names; what else there is may be in any of the
// files, once.
func TestInclude(t *testing.T) {
	dir := write(t, map[string]string{
		"shunt.yaml":      "include: [conf.d/*.yaml, \"more/x.yaml\"]\n" + service("main", "192.0.2.1"),
		"conf.d/20.yaml":  service("b", "192.0.2.3"),
		"conf.d/10.yaml":  "legs: [{interface: eth0}]\n" + service("a", "192.0.2.2"),
		"conf.d/30.yaml":  "# nothing here\n",
		"conf.d/40.other": "nonsense",
		"more/x.yaml":     "workers: 2\n" + service("c", "192.0.2.4"),
	})
	c, err := Load(t.Context(), filepath.Join(dir, "shunt.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range c.Services {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "main a b c" || c.Workers != 2 || c.Legs[0].Interface != "eth0" {
		t.Errorf("services %s, %d workers, legs %v", got, c.Workers, c.Legs)
	}
	// Errors that only the host knows find the right file, too.
	err = c.RealserverError(&c.Services[2].Realservers[0], "is no good")
	if want := filepath.Join(dir, "conf.d/20.yaml") + ":2:69: is no good"; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	// Whoever edits an included file means another configuration.
	if err := os.WriteFile(filepath.Join(dir, "conf.d/20.yaml"), []byte(service("b", "192.0.2.33")), 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := Load(t.Context(), filepath.Join(dir, "shunt.yaml")); err != nil || again.Digest == c.Digest {
		t.Errorf("the digest is the same: %v", err)
	}
}

func TestIncludeWrong(t *testing.T) {
	main := "include: conf.d/*.yaml\nlegs: [{interface: eth0}]\n" + service("main", "192.0.2.1")
	for _, c := range []struct {
		name, main, other string
		want              []string // without the directory
	}{
		{"errors of both, in order", strings.Replace(main, "eth0", "eth0, vlan: -1", 1), strings.Replace(service("a", "192.0.2.2"), "port: 80", "port: 0x", 1),
			[]string{`shunt.yaml:2:32: vlan is -1`, `conf.d/a.yaml:2:41: port is "0x"`}},
		{"a key twice", main, "legs: [{interface: eth1}]\n" + service("a", "192.0.2.2"),
			[]string{`conf.d/a.yaml:1:1: key "legs" is there twice: first in DIR/shunt.yaml:2:1`}},
		{"a service twice", main, service("other", "192.0.2.1"), []string{"conf.d/a.yaml:2:6: there is a service for TCP 192.0.2.1:80 already: DIR/shunt.yaml:4:6"}},
		{"a name twice", main, service("main", "192.0.2.2"), []string{`conf.d/a.yaml:2:12: a service named "main" exists already: DIR/shunt.yaml:4:12`}},
		{"an include in it", main, "include: x.yaml\n" + service("a", "192.0.2.2"), []string{"conf.d/a.yaml:1:1: include is for the main file, DIR/shunt.yaml, only"}},
		{"syntax", main, "services: [", []string{"conf.d/a.yaml:1:1: this is not YAML"}},
		{"no configuration", main, "secret: x", []string{"conf.d/a.yaml: this is not a configuration of shunt"}},
		{"no such file", strings.Replace(main, "conf.d/*.yaml", "nothing.yaml", 1), "", []string{"shunt.yaml:1:10: open DIR/nothing.yaml: no such file"}},
		{"no such directory", strings.Replace(main, "conf.d/*.yaml", "nothing/*.yaml", 1), "", []string{"shunt.yaml:1:10: stat DIR/nothing: no such file"}},
		{"a directory", strings.Replace(main, "conf.d/*.yaml", "conf.d", 1), "", []string{"shunt.yaml:1:10: DIR/conf.d: not a regular file: it is a directory"}},
		{"a device", strings.Replace(main, "conf.d/*.yaml", "/dev/zero", 1), "", []string{"shunt.yaml:1:10: /dev/zero: not a regular file: it is a device"}},
		{"a pipe", strings.Replace(main, "conf.d/*.yaml", "fifo", 1), "", []string{"shunt.yaml:1:10: DIR/fifo: not a regular file: it is a pipe"}},
		{"a pattern", strings.Replace(main, "conf.d/*.yaml", "'conf.d/[*'", 1), "", []string{"shunt.yaml:1:10: \"DIR/conf.d/[*\" is not a pattern"}},
		{"a block", strings.Replace(main, "conf.d/*.yaml", "{a: b}", 1), "", []string{"shunt.yaml:1:10: a block of keys where the path of a file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, map[string]string{"shunt.yaml": c.main, "conf.d/a.yaml": c.other})
			if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(t.Context(), filepath.Join(dir, "shunt.yaml"))
			got := Errors(err)
			if len(got) != len(c.want) {
				t.Fatalf("%d errors: %v", len(got), err)
			}
			for i, want := range c.want {
				text := strings.ReplaceAll(got[i].Error(), dir, "DIR")
				if want = strings.ReplaceAll(want, "shunt.yaml", "DIR/shunt.yaml"); strings.HasPrefix(want, "conf.d") {
					want = "DIR/" + want
				}
				want = strings.ReplaceAll(want, "DIR/DIR", "DIR")
				if !strings.HasPrefix(text, want) {
					t.Errorf("got  %s\nwant %s", text, want)
				}
			}
		})
	}
}

// A pattern of the file's own directory does not include it again, and one without files is no
// error.
func TestIncludeOneself(t *testing.T) {
	dir := write(t, map[string]string{
		"shunt.yaml":    "include: [\"*.yaml\", conf.d/*.yaml]\nlegs: [{interface: eth0}]\n" + service("main", "192.0.2.1"),
		"conf.d/x.conf": "",
	})
	if c, err := Load(t.Context(), filepath.Join(dir, "shunt.yaml")); err != nil || len(c.Services) != 1 {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("VIP", "192.0.2.7")
	t.Setenv("PORT", "8080")
	t.Setenv("EMPTY", "")
	t.Setenv("TRICK", "x, weight: 5}, {address: 10.0.0.9")
	t.Setenv("AGAIN", "${PORT}")
	t.Setenv("BREAK", "a\nb")
	text := strings.NewReplacer("192.168.10.100", "${VIP}", "port: 80", "port: ${PORT}", "weight: 2", `weight: "${WEIGHT:-7}"`, "web", "a $${VIP} $ ${EMPTY}${EMPTY:-b}${AGAIN}").Replace(good)
	dir := write(t, map[string]string{"shunt.yaml": text})
	path := filepath.Join(dir, "shunt.yaml")
	c, err := Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s := &c.Services[0]
	if m := s.Matches[0]; m.Addr.String() != "192.0.2.7" || m.First != 8080 || s.Realservers[1].Weight != 7 || s.Name != "a ${VIP} $ b${PORT}" {
		t.Errorf("%+v", s)
	}
	t.Setenv("PORT", "8081")
	if again, err := Load(t.Context(), path); err != nil || again.Digest == c.Digest {
		t.Errorf("with another environment the digest is the same: %v", err)
	}
	for value, want := range map[string]string{
		"${NOTHING}":  "the environment has no variable NOTHING: set it, or write ${NOTHING:-default}",
		"${VIP":       `"${VIP" is no variable`,
		"${}":         `"${}" is no variable`,
		"${VIP:-":     `"${VIP:-" is no variable`,
		"${a-b}":      `"${a-b}" is no variable`,
		"${TRICK}":    `the realserver "x, weight: 5}, {address: 10.0.0.9" is not an IP address`,
		"${AGAIN}":    `the realserver "${PORT}" is not an IP address`,
		"${BREAK}":    "address has a line break",
		"${EMPTY}":    "the realserver has no address",
		"${VIP}:${x}": "the environment has no variable x",
	} {
		dir := write(t, map[string]string{"shunt.yaml": strings.Replace(good, "10.10.0.12", `"`+value+`"`, 1)})
		_, err := Load(t.Context(), filepath.Join(dir, "shunt.yaml"))
		at := "shunt.yaml:9:18: "
		if value == "${EMPTY}" {
			at = "shunt.yaml:9:9: "
		}
		if err == nil || !strings.Contains(first(err), at+want) {
			t.Errorf("%s: %v\nwant %s%s", value, err, at, want)
		}
	}
}

func TestLoadIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Load(ctx, fifo); !errors.Is(err, context.Canceled) {
		t.Errorf("a pipe without a writer: %v", err)
	}
	if _, err := Load(t.Context(), "/dev/zero"); err == nil || !strings.Contains(err.Error(), "too large: at most 64 MiB are read") {
		t.Errorf("/dev/zero: %v", err)
	}
	f, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0) // let the goroutine end
	if err == nil {
		f.Close()
	}
}
