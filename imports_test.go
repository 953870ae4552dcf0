// Package shunt_test checks what no single package can: who imports whom.
package shunt_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport says which packages of this module each one may import; a name that ends in /... is all
// below it. Who is not here is free: internal/director puts everything together, and what is under
// internal is nobody else's business.
var mayImport = map[string][]string{
	"scheduler":        {},
	"forwarder/frame":  {},
	"forwarder/flow":   {"forwarder/frame"},
	"forwarder":        {"scheduler", "forwarder/flow", "forwarder/frame"},
	"forwarder/ring":   {"forwarder", "forwarder/frame"},
	"forwarder/replay": {"forwarder", "forwarder/frame"},
	"arpd":             {"forwarder/frame"},
	"internal/config":  {"api", "internal/readfile", "forwarder", "forwarder/ring", "forwarder/frame", "scheduler"},
	"internal/delta":   {"forwarder", "forwarder/frame", "internal/config"},
	"api":              {},
	"cmd/shunt":        {"api", "docs", "internal/..."},
}

// goList runs go list on this module, for which it needs neither the network nor a compiler.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestImports: imports go one way. What a package imports through others follows, as each of these
// is looked at itself.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], "shunt/")
		seen[name] = true
		allowed, bound := mayImport[name]
		for _, dep := range fields[1:] {
			dep, ours := strings.CutPrefix(dep, "shunt/")
			switch {
			case !ours:
			case strings.HasPrefix(dep, "cmd/"):
				t.Errorf("%s imports %s: nobody imports a command", name, dep)
			case bound && !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, dep) }):
				t.Errorf("%s imports %s, which it must not; it may import %v", name, dep, allowed)
			case !strings.HasPrefix(name, "internal/") && !strings.HasPrefix(name, "cmd/") && !strings.HasPrefix(name, "bench/") && strings.HasPrefix(dep, "internal/"):
				t.Errorf("%s imports %s: the libraries do not need what is internal", name, dep)
			}
		}
	}
	for name := range mayImport {
		if !seen[name] {
			t.Errorf("there is no package %s any more: the rule about it is of no use", name)
		}
	}
}

func matches(rule, name string) bool {
	if below, ok := strings.CutSuffix(rule, "..."); ok {
		return strings.HasPrefix(name, below)
	}
	return rule == name
}

// TestFrameNeedsNothing: a frame is read by the standard library alone, and so are schedulers and
// the client of the control socket, so that each may be used elsewhere.
func TestFrameNeedsNothing(t *testing.T) {
	for _, name := range []string{"shunt/forwarder/frame", "shunt/scheduler", "shunt/api"} {
		for _, dep := range goList(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", name) {
			if dep != name {
				t.Errorf("%s depends on %s", name, dep)
			}
		}
	}
}

// TestUnsafe: what the compiler cannot check stands in files whose names say so.
func TestUnsafe(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case path.Ext(name) != ".go":
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			if i.Path.Value == `"unsafe"` && !strings.HasSuffix(name, "_unsafe.go") {
				t.Errorf("%s imports unsafe, but is not called *_unsafe.go", name)
			}
			if i.Path.Value == `"C"` {
				t.Errorf("%s imports C: this is built without cgo", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
