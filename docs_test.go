package shunt_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var markdownLink = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]*)\)`)

// documents returns the text of every Markdown file of the repository by its path, without code:
// neither fenced nor indented.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case path.Ext(name) != ".md":
			return nil
		}
		text, err := os.ReadFile(name)
		docs[filepath.ToSlash(name)] = withoutCode(string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func withoutCode(text string) string {
	var b strings.Builder
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		} else if !fenced && !strings.HasPrefix(line, "    ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// anchors returns the fragments by which the headings of a document are linked.
func anchors(text string) map[string]bool {
	all := map[string]bool{"": true}
	for line := range strings.Lines(text) {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(heading))] = true
	}
	return all
}

// TestLinks: every relative link between documents leads to a file, and to a heading of it if it
// names one. Every document below docs is linked from another one.
func TestLinks(t *testing.T) {
	docs := documents(t)
	linked := map[string]bool{}
	for name, text := range docs {
		for _, m := range markdownLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			if target == "" {
				target = name
			} else {
				target = path.Join(path.Dir(name), target)
			}
			if target != name {
				linked[target] = true
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
			} else if to, ok := docs[target]; ok && !anchors(to)[anchor] {
				t.Errorf("%s links to %s, which has no such heading", name, m[1])
			}
		}
	}
	if len(linked) < 20 {
		t.Errorf("only %d linked files were found", len(linked))
	}
	for name := range docs {
		if strings.HasPrefix(name, "docs/") && !linked[name] {
			t.Errorf("no other document links to %s", name)
		}
	}
}

// TestArchitecture: the list of packages in ARCHITECTURE.md is complete and has no others.
func TestArchitecture(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^    ([a-z/]+)/  +[^ ]`).FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, m[1])
	}
	var packages []string
	for _, name := range goList(t, "./...") {
		if name, ok := strings.CutPrefix(name, "shunt/"); ok {
			packages = append(packages, name)
		}
	}
	for _, name := range packages {
		if !slices.Contains(listed, name) {
			t.Errorf("ARCHITECTURE.md does not list the package %s", name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(packages, name) {
			t.Errorf("ARCHITECTURE.md lists %s, which is not a package", name)
		}
	}
}

// TestLogMessages: the log messages in docs/running.md are those of the program.
func TestLogMessages(t *testing.T) {
	text, err := os.ReadFile("docs/running.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## The log\n")
	section, _, _ = strings.Cut(section, "\n## ")
	sources := goSources(t, "internal/director") + goSources(t, "cmd/shunt")
	n := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			n++
			if message := strings.TrimPrefix(m[1], "… "); !strings.Contains(sources, message) {
				t.Errorf("docs/running.md has the log message %q, which the program does not write", m[1])
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d log messages were found", n)
	}
}

// goSources returns the text of the Go files of a directory, without tests.
func goSources(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}
