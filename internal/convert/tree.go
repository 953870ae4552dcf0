package convert

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
)

// A node is one statement of keepalived.conf: its words, and the statements between its braces.
type node struct {
	place
	words    []string
	children []*node
	braces   bool
}

// word returns the i-th word, or "".
func (n *node) word(i int) string {
	if i < len(n.words) {
		return n.words[i]
	}
	return ""
}

// Bounds against files that include themselves, or nest without end.
const (
	maxDepth = 32
	maxFiles = 256
)

// reader reads keepalived.conf and what it includes. The syntax: words on a line are a statement; an opening brace, there or
// on the next line, begins its block; # and ! begin comments; "..." is one word; $NAME=VALUE defines what $NAME and ${NAME}
// stand for from there on.
type reader struct {
	r     *result
	read  func(name string) ([]byte, error)
	glob  func(pattern string) ([]string, error)
	vars  map[string]string
	files int
	open  map[string]bool // files that are being read
}

// file reads one file into the children of a node.
func (x *reader) file(name string, text []byte, depth int) []*node {
	x.files++
	x.open[name] = true
	defer delete(x.open, name)
	root := &node{}
	stack := []*node{root}
	var last *node // the statement that a brace would belong to
	for i, line := range strings.Split(string(text), "\n") {
		at := place{name, i + 1}
		words := x.split(line)
		if len(words) == 0 {
			continue
		}
		if x.definition(at, words) {
			continue
		}
		if words[0] == "include" && len(words) == 2 {
			top := stack[len(stack)-1]
			top.children = append(top.children, x.include(at, name, words[1], depth)...)
			last = nil
			continue
		}
		var now *node
		for _, w := range words {
			switch {
			case w == "{" && (now != nil || last != nil):
				if now == nil {
					now = last
				}
				if len(stack) > maxDepth {
					x.r.note(at, "blocks within blocks, deeper than %d: not read", maxDepth)
					return root.children
				}
				now.braces = true
				stack = append(stack, now)
				now, last = nil, nil
			case w == "{":
				x.r.note(at, "a brace that belongs to nothing")
			case w == "}":
				now, last = nil, nil
				if len(stack) == 1 {
					x.r.note(at, "a closing brace without an opening one")
					continue
				}
				stack = stack[:len(stack)-1]
			case now == nil:
				now = &node{place: at, words: []string{w}}
				top := stack[len(stack)-1]
				top.children = append(top.children, now)
			default:
				now.words = append(now.words, w)
			}
		}
		if now != nil {
			last = now
		}
	}
	if len(stack) > 1 {
		x.r.note(stack[len(stack)-1].place, "the block that begins here is not closed")
	}
	return root.children
}

// definition takes $NAME=VALUE.
func (x *reader) definition(at place, words []string) bool {
	name, value, ok := strings.Cut(words[0], "=")
	if !ok || !strings.HasPrefix(name, "$") || len(name) < 2 {
		return false
	}
	value = strings.Join(append([]string{value}, words[1:]...), " ")
	if strings.HasSuffix(value, "\\") || len(value) > 4096 {
		x.r.note(at, "the definition of %s goes on over several lines: not understood", name)
		return true
	}
	x.vars[strings.Trim(name[1:], "{}")] = value
	return true
}

// include reads the files that match a pattern, relative to the file that includes them.
func (x *reader) include(at place, from, pattern string, depth int) (out []*node) {
	if !path.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(from), pattern)
	}
	names, err := x.glob(pattern)
	if err == nil && len(names) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		x.r.note(at, "include %s: %v", pattern, err)
		return nil
	}
	for _, name := range names {
		if x.open[name] {
			x.r.note(at, "include %s: the file includes itself", name)
			continue
		}
		if depth >= maxDepth || x.files >= maxFiles {
			x.r.note(at, "include %s: too many files", name)
			return out
		}
		text, err := x.read(name)
		if err != nil {
			x.r.note(at, "include %s: %v", name, err)
			continue
		}
		out = append(out, x.file(name, text, depth+1)...)
	}
	return out
}

// split cuts a line into words, without its comment.
func (x *reader) split(line string) (words []string) {
	var b strings.Builder
	quoted, any := false, false
	flush := func() {
		if any {
			words = append(words, x.expand(b.String()))
		}
		b.Reset()
		any = false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '"':
			quoted, any = !quoted, true
		case quoted:
			b.WriteByte(c)
		case c == '#' || c == '!':
			flush()
			return words
		case c == ' ' || c == '\t' || c == '\r':
			flush()
		case c == '{' && strings.HasSuffix(b.String(), "$"): // ${NAME}
			end := strings.IndexByte(line[i:], '}')
			if end < 0 {
				end = len(line) - i - 1
			}
			b.WriteString(line[i : i+end+1])
			i += end
		case c == '{' || c == '}':
			flush()
			words = append(words, string(c))
		default:
			b.WriteByte(c)
			any = true
		}
	}
	flush()
	return words
}

// expand puts in what was defined.
func (x *reader) expand(w string) string {
	if !strings.Contains(w, "$") || strings.HasPrefix(w, "$") && strings.Contains(w, "=") {
		return w
	}
	for name, value := range x.vars {
		w = strings.ReplaceAll(w, "${"+name+"}", value)
		if w == "$"+name {
			w = value
		}
		if len(w) > 4096 {
			return fmt.Sprintf("%.64s", w)
		}
	}
	return w
}
