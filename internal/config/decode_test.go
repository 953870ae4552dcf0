package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var anyType = reflect.TypeFor[any]()

func isString(x any) bool { _, ok := x.(string); return ok }

// What both libraries understand must mean the same to both: which of them reads a file is a matter of time only.
func TestDecodersAgree(t *testing.T) {
	texts := map[string]string{
		"anchors": "x-templates:\n  base: &base {scheduler: wrr, persistence: 6m}\nlegs: [{interface: eth0}]\nservices:\n" +
			"  - <<: *base\n    address: 192.0.2.1\n    port: 80\n    realservers: &all [{address: 10.0.0.1}]\n" +
			"  - <<: *base\n    address: 192.0.2.1\n    port: 443\n    realservers: *all\n",
		"scalars": "flows: 4096\nguard: off\nanswer: false\nlegs: [{interface: eth0, vlan: 7, networks: [10.0.0.0/8]}]\n" +
			"arp: {announce: 90, refresh: 1.5}\ncontrol: {mode: \"0600\"}\nservices:\n  - {name: 123, address: 192.0.2.1, port: 80-90, persistence: true, " +
			"mark: 7, realservers: [{address: 10.0.0.1, weight: 0, drain: 30}]}\n",
		"large": string(large(20)),
	}
	files, err := filepath.Glob("../../packaging/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	for name, text := range texts {
		fast := decodeFast([]byte(text))
		if fast == nil {
			t.Errorf("%s is not read by the fast one", name)
			continue
		}
		slow, err := (&source{file: name, text: []byte(text)}).decode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// Numbers of values that may be of several kinds have other types, which the validator takes alike.
		alike := cmp.FilterValues(func(a, b any) bool { return !isString(a) && !isString(b) }, cmp.Comparer(func(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }))
		slow.Templates, fast.Templates = nil, nil
		if d := cmp.Diff(slow, fast, cmp.AllowUnexported(file{}), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type() == anyType }, alike)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// Errors have their places though the fast library finds none.
func TestErrorsOfLargeFile(t *testing.T) {
	text := strings.Replace(string(large(50)), "name: s49", "nmae: s49", 1)
	_, err := Parse("x", []byte(text))
	if err == nil || !strings.HasPrefix(err.Error(), "x:740:5: unknown key") {
		t.Error(err)
	}
	text = strings.Replace(string(large(50)), "192.168.0.50", "192.168.0.500", 1)
	_, err = Parse("x", []byte(text))
	if err == nil || !strings.HasPrefix(err.Error(), "x:741:14: the VIP") {
		t.Error(err)
	}
}
