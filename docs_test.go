package shunt_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
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
