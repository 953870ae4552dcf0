package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"shunt/api"
	"shunt/forwarder"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rows returns, for each heading of a document, the first cells of the tables under it, without
// their backquotes.
func rows(doc string) map[string][]string {
	out := map[string][]string{}
	heading := ""
	row := regexp.MustCompile("^\\| `([^`]+)` \\|")
	for line := range strings.Lines(doc) {
		if h := strings.TrimLeft(line, "#"); h != line && strings.HasPrefix(h, " ") {
			heading = strings.TrimSpace(h)
		}
		if m := row.FindStringSubmatch(line); m != nil {
			out[heading] = append(out[heading], m[1])
		}
	}
	return out
}

// same compares what a section of a document lists with what there is.
func same(t *testing.T, where string, got, want []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s does not describe `%s`", where, w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("%s describes `%s`, which does not exist", where, g)
		}
	}
}

// The tables of docs/configuration.md have every key of the file, and no other.
func TestKeysAreDocumented(t *testing.T) {
	documented := rows(readDoc(t, "configuration.md"))
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		var keys []string
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := f.Tag.Get("yaml")
			keys = append(keys, key)
			ft := f.Type
			for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			if ft.Kind() == reflect.Struct && ft != scalarType {
				walk(strings.TrimPrefix(path+"."+key, "."), ft)
			}
		}
		if path == "" {
			path = "Top level"
		}
		same(t, "docs/configuration.md, section "+path, documented[path], keys)
	}
	walk("", reflect.TypeFor[file]())
}

// The examples of docs/configuration.md are whole files, and right.
func TestExamplesOfDocument(t *testing.T) {
	doc := readDoc(t, "configuration.md")
	n := 0
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatchIndex(doc, -1) {
		text, line := doc[m[2]:m[3]], 1+strings.Count(doc[:m[2]], "\n")
		if !strings.HasPrefix(text, "legs:") {
			continue
		}
		n++
		// As many empty lines as there are before it make the error point into the document.
		if _, err := Parse("docs/configuration.md", []byte(strings.Repeat("\n", line-1)+text)); err != nil {
			t.Error(err)
		}
	}
	if n < 10 {
		t.Errorf("only %d examples were found", n)
	}
}

// docs/control.md has every verdict with its meaning and every field of the answers, counters among them.
func TestControlDocument(t *testing.T) {
	doc := readDoc(t, "control.md")
	documented := rows(doc)

	var verdicts []string
	for v := range forwarder.NumVerdicts {
		verdicts = append(verdicts, v.String())
		if row := fmt.Sprintf("| `%s` | %s |", v, v.Meaning()); !strings.Contains(doc, row) {
			t.Errorf("docs/control.md lacks the row of a verdict: %s", row)
		}
	}
	same(t, "docs/control.md, section Verdicts", documented["Verdicts"], verdicts)

	for section, typ := range map[string]reflect.Type{
		"/v1/status":                 reflect.TypeFor[api.Status](),
		"reload":                     reflect.TypeFor[api.Reload](),
		"drift":                      reflect.TypeFor[api.Drift](),
		"differences":                reflect.TypeFor[api.Difference](),
		"/v1/config":                 reflect.TypeFor[api.RunningConfig](),
		"POST /v1/realservers/drain": reflect.TypeFor[api.Servers](),
		"probes":                     reflect.TypeFor[api.Probes](),
		"latency":                    reflect.TypeFor[api.Latency](),
		"legs of the director":       reflect.TypeFor[api.Leg](),
		"ARP of a leg":               reflect.TypeFor[api.ARPCounters](),
		"table":                      reflect.TypeFor[api.TableCounters](),
		"answers":                    reflect.TypeFor[api.AnswerCounters](),
		"rings":                      reflect.TypeFor[api.RingCounters](),
		"confinement":                reflect.TypeFor[api.Confinement](),
		"conflicts":                  reflect.TypeFor[api.Conflict](),
		"guard":                      reflect.TypeFor[api.Guard](),
		"/v1/services":               reflect.TypeFor[api.Service](),
		"realservers":                reflect.TypeFor[api.Realserver](),
		"counts":                     reflect.TypeFor[api.Counts](),
		"rates":                      reflect.TypeFor[api.Rates](),
		"/v1/connections":            reflect.TypeFor[api.Connection](),
		"POST /v1/connections/kill":  reflect.TypeFor[api.Kill](),
		"POST /v1/connections/move":  reflect.TypeFor[api.Move](),
		"/v1/neighbours":             reflect.TypeFor[api.Neighbour](),
		"/v1/explain":                reflect.TypeFor[api.Explanation](),
		"candidates of a service":    reflect.TypeFor[api.Candidate](),
	} {
		var fields []string
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			fields = append(fields, name)
		}
		same(t, "docs/control.md, section "+section, documented[section], fields)
	}

	var overview []string
	for f := range reflect.TypeFor[api.Overview]().Fields() {
		if !f.Anonymous { // those of a Status are there
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			overview = append(overview, name)
		}
	}
	same(t, "docs/control.md, section /v1/overview", documented["/v1/overview"], overview)
}
