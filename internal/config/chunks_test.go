package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A long list of services means the same in parts as in one, whatever stands in it; or it is not cut.
func TestChunks(t *testing.T) {
	odd := []string{
		"\"", "'", "\n", " ", "  ", "#", " # ", "- ", "\n  - ", "\n- ", "[", "]", "{", "}", ",", ": ", ":", "|", ">", "| \n", "&a ", "*a", "!", "? ", "\\", "---\n", "...\n",
		"services:\n", "\nflows: 4096\n", "\nlog: {level: debug}\n", "\"8000-8099\"", "'all'", "it's", "\t", "\r", "%YAML 1.2\n", "<<: ", "\nx-templates: {a: \"", "\nx-templates:\n  - ", "null", "~",
	}
	cuts, changed := 0, 0
	check := func(t *rapid.T) {
		text := string(large(rapid.IntRange(1, 12).Draw(t, "services")))
		if rapid.Bool().Draw(t, "legs last") {
			legs, services, _ := strings.Cut(text, "services:")
			text = "services:" + services + legs
		}
		if rapid.Bool().Draw(t, "at the margin") {
			text = strings.ReplaceAll(text, "\n  ", "\n")
		}
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			at := rapid.IntRange(0, len(text)).Draw(t, "at")
			end := min(at+rapid.SampledFrom([]int{0, 0, 1, 2, 20}).Draw(t, "removed"), len(text))
			text = text[:at] + rapid.SampledFrom(odd).Draw(t, "odd") + text[end:]
			changed++
		}
		parts := decodeChunks([]byte(text), 300)
		if parts == nil {
			return
		}
		cuts++
		whole := decodeOne([]byte(text))
		if d := cmp.Diff(whole, parts, cmp.AllowUnexported(file{})); d != "" {
			t.Fatalf("in one -, in parts +\n%s\n%s", d, text)
		}
	}
	rapid.Check(t, check)
	if cuts == 0 || changed == 0 {
		t.Fatal("nothing was cut")
	}
	if decodeChunks(large(4000), chunkSize) == nil {
		t.Error("a plain file of 4000 services is not cut")
	}
}

// What TestChunks found once.
func TestPlainSpaces(t *testing.T) {
	for _, field := range []string{"port: 80", "port:  80", "port:   80", "persistence:  90s", "persistence:  90", "slow_start:  '7'", "table_size:  7"} {
		item := "- address: 192.168.0.1\n  " + field + "\n"
		s, certain := decodePlain(item, 0)
		if whole := decodeOne([]byte("services:\n" + item)); certain && cmp.Diff(whole.Services[0], s, cmp.AllowUnexported(file{})) != "" {
			t.Errorf("%q: %v, not %v", field, s, whole.Services[0])
		}
	}
}

func TestClosed(t *testing.T) {
	for line, want := range map[string]bool{
		"- {address: 10.0.0.1, weight: 1}": true, `port: "8000-8099"`: true, `name: 'a_b'`: true, "a: []": true, "realservers:": true,
		"- {address: 10.0.0.1,": false, "}": false, "}{": false, `name: "a`: false, `name: "a b"`: false, "it's": false, "a: |": false, "a: # }": false, `"a\`: false,
	} {
		if got := closed([]byte(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
