package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What is certain to decodePlain means the same to the library.
func TestPlain(t *testing.T) {
	values := []string{
		"a", "web-1", "10.0.0.1", "fd00::1", "02:00:00:00:00:11", "\"02:00:00:00:00:11\"", "'a.b/c'", "80", "0", "65535", "\"80\"", "\"8000-8099\"", "8000-8099", "all",
		"90s", "6m", "1h", "1h2m", "999999999", "9999999999", "010", "0x10", "0o7", "0b1", "1_0", "1e3", "1.5", ".5", "-1", "+1", "12:30:45", "2001-01-01", "null", "Null", "NULL", "nULL",
		"~", "\"null\"", "true", "on", "yes", "y", "n", "NaN", ".inf", "\"\"", "''", "", "\"", "'", "'''", "a:", ":a", "a: b", "a b", "a #b", "a#b", "[a]", "{a: b}", "!!str 1", "a]", "ä",
		"0s", "00s", "s", "=", "<<", "a,b", "?", "-", "- a", "\"a\" ", " a", "a\tb", "\"a\"b", "1s,", "\"a\\n\"",
	}
	// Values beside what is expected are rare, so that there are services without any.
	value := func(t *rapid.T, plain ...string) string {
		if rapid.IntRange(0, 15).Draw(t, "strange") == 0 {
			return rapid.SampledFrom(values).Draw(t, "value")
		}
		return rapid.SampledFrom(plain).Draw(t, "plain")
	}
	field := func(t *rapid.T, k string) string {
		switch k {
		case "address":
			return k + ": " + value(t, "10.0.0.1", "fd00::1", "\"fd00::2\"")
		case "weight", "upper", "lower", "persistence_mask", "table_size":
			return k + ": " + value(t, "0", "7", "32")
		case "port", "persistence", "slow_start", "drain":
			return k + ": " + value(t, "80", "6m", "90s", "all", "\"80-90\"")
		default:
			return k + ": " + value(t, "a", "tcp", "'b'")
		}
	}
	// Keys that are there twice are rare, too.
	some := func(t *rapid.T, keys ...string) []string {
		keys = rapid.Permutation(keys).Draw(t, "keys")[:rapid.IntRange(1, 4).Draw(t, "number of keys")]
		if rapid.IntRange(0, 15).Draw(t, "twice") == 0 {
			keys = append(keys, keys[0])
		}
		return keys
	}
	certain, braces, blocks := 0, 0, 0
	same := func(t rapid.TB, text string, indent int) {
		s, ok := decodePlain(text, indent)
		if !ok {
			return
		}
		f := decodeOne([]byte("services:\n" + text))
		if f == nil {
			t.Fatalf("the library refuses it:\n%s", text)
		}
		if d := cmp.Diff([]serviceFile{s}, f.Services); d != "" {
			t.Fatalf("here -, by the library +\n%s\n%s", d, text)
		}
		certain++
		if strings.Contains(text, "{") {
			braces++
		} else if len(s.Realservers) > 0 {
			blocks++
		}
	}
	for _, v := range values {
		for _, k := range []string{"name", "address", "protocol", "port", "scheduler", "table_size", "persistence", "persistence_mask", "slow_start", "one_packet", "flags"} {
			same(t, "- "+k+": "+v+"\n", 0)
		}
		for _, k := range []string{"address", "weight", "upper", "lower", "drain", "mac", "leg"} {
			same(t, "- name: a\n  realservers:\n  - {"+k+": "+v+"}\n", 0)
			same(t, "- name: a\n  realservers:\n  - "+k+": "+v+"\n", 0)
		}
	}
	for _, lines := range []string{
		"  - address: a\n     weight: 1\n", "  - address: a\n   weight: 1\n", "  - address: a\n    weight: 1\n", "    - address: a\n    weight: 1\n", "    - address: a\n  - address: b\n",
		"  - {address: a}\n    weight: 1\n", "  - {address: a}\n  -\n", "  - {}\n", "  - {address: a,}\n", " - {address: a}\n", "  {address: a}\n", "",
	} {
		same(t, "- name: a\n  realservers:\n"+lines, 0)
	}
	check := func(t *rapid.T) {
		indent := rapid.IntRange(0, 3).Draw(t, "indent")
		pad := strings.Repeat(" ", indent)
		var b strings.Builder
		for i, k := range some(t, "name", "address", "protocol", "port", "scheduler", "table_size", "persistence", "persistence_mask", "slow_start", "one_packet") {
			fmt.Fprintf(&b, "%s%s%s\n", pad, []string{"- ", "  "}[min(i, 1)], field(t, k))
		}
		if list := pad + strings.Repeat(" ", rapid.IntRange(1, 6).Draw(t, "list")); rapid.Bool().Draw(t, "realservers") {
			b.WriteString(pad + "  realservers:\n")
			for range rapid.IntRange(0, 3).Draw(t, "number") {
				inBraces := rapid.Bool().Draw(t, "braces")
				open, between, end := "", "\n"+list+"  ", ""
				if inBraces {
					open, between, end = "{", ", ", "}"
				}
				var fields []string
				for _, k := range some(t, "address", "weight", "upper", "lower", "drain", "mac", "leg") {
					fields = append(fields, field(t, k))
				}
				b.WriteString(list + "- " + open + strings.Join(fields, between) + end + "\n")
			}
		}
		text := b.String()
		for range rapid.IntRange(0, 1).Draw(t, "changes") {
			at := rapid.IntRange(0, len(text)).Draw(t, "at")
			end := min(at+rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "removed"), len(text))
			text = text[:at] + rapid.SampledFrom([]string{"", "", "\n", " ", "\n  ", "# ", "\n# a\n", "\n# \u2028 a\n", "- ", "-", ",", ": ", ":", "}", "{", "\"", "'", "\x01", "#\x01"}).Draw(t, "odd") + text[end:]
		}
		same(t, text, indent)
	}
	rapid.Check(t, check)
	t.Logf("%d were certain, %d with braces, %d with keys on lines", certain, braces, blocks)
	if certain == 0 {
		t.Error("nothing was certain")
	}
	if _, ok := decodePlain("- name: a\n  # why\n  port: 80\n\n  realservers:\n  - {address: 10.0.0.1, mac: \"02:00:00:00:00:11\"}\n  - address: fd00::1\n    drain: 90s\n", 0); !ok {
		t.Error("a plain service is not certain")
	}
}
