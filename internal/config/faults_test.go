package config

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// parseErr is the error of a text that is wrong.
func parseErr(t *testing.T, text string) error {
	t.Helper()
	_, err := Parse("x", []byte(text))
	if err == nil {
		t.Fatalf("accepted:\n%.500s", text)
	}
	return err
}

// first is the first line of an error.
func first(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// No number is cut to another one.
func TestNumbersAreWhole(t *testing.T) {
	for _, c := range []struct{ key, at string }{
		{"weight", "services:\n  - {address: 192.0.2.1, port: 80, realservers: [{address: 10.0.0.1, weight: %s}]}\nlegs: [{interface: eth0}]\n"},
		{"upper", "services:\n  - {address: 192.0.2.1, port: 80, realservers: [{address: 10.0.0.1, upper: %s}]}\nlegs: [{interface: eth0}]\n"},
		{"lower", "services:\n  - {address: 192.0.2.1, port: 80, realservers: [{address: 10.0.0.1, lower: %s}]}\nlegs: [{interface: eth0}]\n"},
		{"mark", "services:\n  - {address: 192.0.2.1, port: 80, mark: %s, realservers: [{address: 10.0.0.1}]}\nlegs: [{interface: eth0}]\n"},
		{"table_size", "services:\n  - {address: 192.0.2.1, port: 80, scheduler: mh, table_size: %s, realservers: [{address: 10.0.0.1}]}\nlegs: [{interface: eth0}]\n"},
		{"persistence_mask", "services:\n  - {address: 192.0.2.1, port: 80, persistence: 6m, persistence_mask: %s, realservers: [{address: 10.0.0.1}]}\nlegs: [{interface: eth0}]\n"},
		{"vlan", strings.Replace(good, "interface: eth0", "interface: eth0\n    vlan: %s", 1)},
		{"workers", "workers: %s\n" + good}, {"flows", "flows: %s\n" + good},
		{"slots", "ring: {slots: %s}\n" + good}, {"slot_size", "ring: {slot_size: %s}\n" + good},
		{"processor", "ring: {cpus: [%s]}\n" + good},
		{"conn_reuse_mode", "ipvs: {conn_reuse_mode: %s}\n" + good}, {"drop_entry", "ipvs: {drop_entry: %s}\n" + good},
		{"drop_packet", "ipvs: {drop_packet: %s}\n" + good}, {"am_droprate", "ipvs: {am_droprate: %s}\n" + good},
		{"secure_tcp", "ipvs: {secure_tcp: %s}\n" + good},
	} {
		for _, n := range []string{"0.9", "1.5", "2.0", "1e3", "-0.5", "010", "1x", ".inf", "99999999999999999999", "-9223372036854775809", "0x"} {
			err := parseErr(t, fmt.Sprintf(c.at, n))
			if !strings.Contains(first(err), n) || !strings.Contains(first(err), c.key) || !strings.Contains(first(err), "it must be a whole number from") {
				t.Errorf("%s: %s: %v", c.key, n, err)
			}
		}
	}
}

func TestTimesAreInRange(t *testing.T) {
	for _, n := range []string{"-1", "1e-7", "1e300", "9.3e9", ".nan", "nan", "inf", "0", "999ms", "745h", "9999999999999999999h", "soon"} {
		err := parseErr(t, "ipvs: {timeouts: {tcp: "+n+"}}\n"+good)
		if !strings.HasPrefix(first(err), "x:1:24: tcp is ") {
			t.Errorf("%s: %v", n, err)
		}
	}
}

// All that is wrong is told at once, whatever stage finds it, and in the order of the file.
func TestAllErrorsAtOnce(t *testing.T) {
	err := parseErr(t, `legs: [{interface: eth0, vlan: 10.5}]
colour: red
services:
  - address: 192.0.2.1.5
    port: 99999
    schedular: rr
    realservers:
      - 10.10.0.11
      - {address: 10.10.0.12, weight: heavy, port: 80}
  - {address: 192.0.2.2, realserver: [], persistence: [1]}
workers: many
`)
	want := []string{
		"x:1:32: vlan is 10.5", `x:2:1: unknown key "colour"`, `x:4:14: the VIP "192.0.2.1.5" is not`, "x:5:11: port is 99999",
		`x:6:5: unknown key "schedular"; did you mean scheduler?`, "x:8:9: text where a block of keys is expected: write - address: 10.10.0.11",
		"x:9:39: weight is heavy", `x:9:46: unknown key "port"; a realserver has the service's port`, "x:10:6: there is no port",
		`x:10:26: unknown key "realserver"; did you mean realservers?`, "x:10:55: a list where one value is expected", "x:11:10: workers is many",
	}
	got := Errors(err)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing: %s", want[i])
		case i >= len(want) || !strings.HasPrefix(got[i].Error(), want[i]):
			t.Errorf("error %d: %s\nwant %v", i, got[i].Error(), want[min(i, len(want)-1)])
		}
	}
}

// The first errors are told, the others are counted.
func TestManyErrors(t *testing.T) {
	text := strings.ReplaceAll(string(large(30)), "weight:", "wait:")
	got := Errors(parseErr(t, text))
	if len(got) != maxTold+1 || got[0].Line != 10 || got[maxTold].Message != "and 280 more errors" {
		t.Errorf("%d errors: %+v", len(got), got)
	}
}

func TestHints(t *testing.T) {
	service := "legs: [{interface: eth0}]\nservices:\n  - {address: 192.0.2.1, port: 80, realservers: [%s]}\n"
	for text, want := range map[string]string{
		"service:\n" + good:                                     "did you mean services?",
		"wrokers: 1\n" + good:                                   "did you mean workers?",
		"weight: 1\n" + good:                                    "it belongs under services.realservers",
		strings.Replace(good, "port:", "Port:", 1):              "did you mean port?",
		strings.Replace(good, "address:", "vip:", 1):            "did you mean address?",
		fmt.Sprintf(service, "10.10.0.11"):                      "write - address: 10.10.0.11",
		fmt.Sprintf(service, "10.10.0.11:80"):                   "write - address: 10.10.0.11; a realserver has the service's port",
		fmt.Sprintf(service, `"[fd00::1]:80"`):                  `write - address: "fd00::1"; a realserver`,
		fmt.Sprintf(service, "{address: '10.0.0.1:80'}"):        "write address: 10.0.0.1; a realserver has the service's port",
		strings.Replace(good, "10.100", "10.100:80", 1):         "write address: 192.168.10.100 and port: 80",
		strings.Replace(good, "10.100", "10.100/32", 1):         "write it without the length of a prefix, 192.168.10.100",
		strings.Replace(good, "- interface: eth0", "- eth0", 1): "write - interface: eth0",
		"legs: {interface: eth0}\nservices: []\n":               "begin each leg with a dash",
	} {
		if err := parseErr(t, text); !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		n    int
	}{{"", "abc", 3}, {"schedular", "scheduler", 1}, {"prot", "port", 1}, {"realserver", "realservers", 1}, {"kitten", "sitting", 3}, {"abc", "abc", 0}} {
		if n := edits(c.a, c.b); n != c.n {
			t.Errorf("edits(%q, %q) = %d, want %d", c.a, c.b, n, c.n)
		}
	}
}

// What would change a terminal or a line of a log is refused, and is not shown raw either.
func TestUnprintable(t *testing.T) {
	for _, name := range []string{`"a\nb"`, `"a\eb"`, `"a\0b"`, `"a\u202eb"`, `"a\u2028b"`, `"a\tb"`, "|\n      a\n      b\n    #"} {
		text := strings.Replace(good, "name: web", "name: "+name, 1)
		if err := parseErr(t, text); !strings.HasPrefix(first(err), "x:4:11: name has a line break or a character that cannot be printed (U+") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, want := range map[string]string{
		strings.Replace(good, "web", "\x1b[31m", 1): "x:4:11: a control character (U+001B)",
		strings.Replace(good, "web", "w\xff", 1):    "x:4:12: a byte that is not UTF-8 (0xff)",
	} {
		err := parseErr(t, text)
		if first(err) != want+", which YAML does not allow" && first(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
		if strings.Contains(err.Error(), "\x1b") || !utf8.ValidString(err.Error()) {
			t.Errorf("shown raw: %q", err)
		}
	}
}

// bomb is a mapping that is merged n times into the next, and so on.
func bomb(depth, times int) string {
	var b strings.Builder
	b.WriteString("x-templates:\n  a0: &a0 {scheduler: rr}\n")
	for i := range depth {
		list := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), times), ", ")
		fmt.Fprintf(&b, "  a%d: &a%d {<<: [%s]}\n", i+1, i+1, list)
	}
	return b.String() + fmt.Sprintf("legs: [{interface: eth0}]\nservices: [{<<: *a%d, address: 192.0.2.1, port: 80, realservers: [{address: 10.0.0.1}]}]\n", depth)
}

// manyKeys is so much that whatever looks at all of it for each of it does not end.
func manyKeys(format string) string {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// Small and large files that would take for ever, or all memory.
func TestBounds(t *testing.T) {
	aliases := "x-templates: {a: &a [" + strings.Repeat("{address: 10.0.0.1}, ", 2000) + "]}\nlegs: [{interface: eth0}]\nservices:\n" +
		strings.Repeat("  - {address: 192.0.2.1, port: 80, realservers: *a}\n", 2000)
	for name, c := range map[string]struct{ text, want string }{
		"merges":         {bomb(10, 9), "aliases repeat more than"},
		"deep merges":    {bomb(30, 1), "merges in merges, more than 20 deep"},
		"endless merge":  {"x-templates: &a {<<: *a}\nlegs: [{interface: eth0}]\nservices: [{<<: *a}]\n", "merges in merges"},
		"aliases":        {aliases, "aliases repeat more than"},
		"endless alias":  {"legs: [{interface: eth0}]\nservices: &a [*a]\n", "a list where a block of keys is expected"},
		"brackets":       {"legs: " + strings.Repeat("[", 100_000), "brackets in brackets"},
		"braces":         {"legs: " + strings.Repeat("{a: ", 100_000), "brackets in brackets"},
		"dashes":         {"legs: \n" + strings.Repeat("- ", 100_000), "x:2:1: this is not YAML: exceeded max depth"},
		"many values":    {"legs: [" + strings.Repeat("a,", maxValues+1) + "]", "more than 4194304 values"},
		"many lines":     {"legs:\n" + strings.Repeat("\n", maxValues+1), "more than 4194304 values"},
		"many keys":      {good + manyKeys("k%d: 1\n"), `x:11:1: unknown key "k0"`},
		"one key often":  {good + manyKeys("flows: 2048 # %d\n"), `x:12:1: key "flows" is there twice: first in line 11`},
		"keys in braces": {"legs: [{interface: eth0}]\nservices: [{" + manyKeys("k%d: 1, ") + manyKeys("port: 80, #%d\n") + "}]\n", `x:2:13: unknown key "k0"`},
		"a long value":   {strings.Replace(good, "web", strings.Repeat("x", 1<<20), 1), "the name has 1048576 bytes"},
		"a long address": {strings.Replace(good, "10.10.0.11", strings.Repeat("x", 1<<20), 1), "is not an IP address"},
		"a long number":  {strings.Replace(good, "weight: 2", "weight: "+strings.Repeat("9", 1<<20), 1), "it must be a whole number"},
		"a long key":     {strings.Replace(good, "weight", strings.Repeat("x", 1<<10), 1), "unknown key"},
		"a long anchor":  {"legs: *" + strings.Repeat("x", 1<<20), "there is no anchor"},
		"a long leg":     {strings.Replace(good, "weight: 2", "leg: "+strings.Repeat("x", 1<<20), 1), "there is no leg"},
		"many names":     {strings.Replace(good, "weight: 2", "leg: x", 1) + strings.Repeat("# \n", 1<<18), "there is no leg"},
	} {
		t.Run(name, func(t *testing.T) {
			err := parseErr(t, c.text)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%.300s; want %s", err, c.want)
			}
			if n := len(err.Error()); n > 40<<10 {
				t.Errorf("the error has %d bytes", n)
			}
		})
	}
}

// Of a file this is not a configuration nothing is told but that.
func TestForeign(t *testing.T) {
	for name, text := range map[string]string{
		"shadow":    "root:$6$secret$hash:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nlegs:!:19000:::::\n",
		"mapping":   "password: secret\nuser: root\n",
		"list":      "- secret\n- more\n",
		"a word":    "secret\n",
		"key":       "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n",
		"broken":    "password: [secret\n",
		"control":   "secret\x00\x01\n",
		"binary":    "\x7fELF secret \xff",
		"documents": "a: secret\n---\nb: secret\n",
		"anchor":    "password: *secret\n",
	} {
		err := parseErr(t, text)
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "root") || len(Errors(err)) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
