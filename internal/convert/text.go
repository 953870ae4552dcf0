package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of keepalived's text level, against files that include or expand themselves without end.
const (
	maxFile   = 16 << 20 // bytes of one file
	maxFiles  = 256
	maxDepth  = 32      // files within files, blocks within blocks
	maxLine   = 1 << 16 // bytes of a line after expansion
	maxInLine = 1000    // substitutions in one line
	lineOfKA  = 1023    // bytes that keepalived reads at once
)

// textReader is keepalived's text level. It gives the text of a configuration in pieces, each of
// which is a brace or has none. Before that it follows includes, takes away comments, leaves out
// lines of other hosts (@id), and puts in definitions, ~SEQ and ~LST. All of that happens to text,
// before there are words. The order of things is that of keepalived 2.2.7.
type textReader struct {
	r     *result
	disk  disk
	id    string // of the configuration, for @id
	defs  map[string]*definition
	rest  string // of a line that had a brace in it
	stack []expansion
	files []*textFile // the innermost last; those that are not yet begun too
	at    place
	steps int  // of expansion that are left
	begun int  // files so far
	ended bool // by a bound
}

// A textFile is a file that is read, or will be.
type textFile struct {
	name  string
	begun bool
	lines []string
	line  int
	depth int
}

// An expansion gives lines that come before the rest of the file: of a definition of several lines,
// or of a sequence. more tells whether there is another one after this.
type expansion func() (line string, more bool)

func newTextReader(r *result, d disk, name string, text []byte, id string) *textReader {
	x := &textReader{r: r, disk: d, id: id, steps: r.limits.steps, defs: map[string]*definition{}, at: place{name, 1}}
	x.standard()
	x.files = []*textFile{{name: name, begun: true, lines: linesOf(text)}}
	return x
}

func linesOf(text []byte) []string {
	lines := strings.Split(string(text), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, "\r")
	}
	return lines
}

// hostID is the default of a configuration's id: the host's name up to the first dot.
func hostID() string {
	name, _ := os.Hostname()
	name, _, _ = strings.Cut(name, ".")
	return name
}

// piece returns the next piece of text that says something, and where it was written.
func (x *textReader) piece() (text string, at place, ok bool) {
	var open *definition // that goes on in the next line
	for {
		line, blank, ok := x.line()
		switch {
		case !ok:
			return "", x.at, false
		case open != nil:
			if blank || !open.add(line) {
				open = nil
			}
			continue
		case blank:
			continue
		}
		line, open = x.resolve(line)
		if line == "" || x.include(line) {
			continue
		}
		return x.cut(line), x.at, true
	}
}

// line returns the next line without its comment. blank is an empty line of a file, which ends a
// definition.
func (x *textReader) line() (line string, blank, ok bool) {
	if x.rest != "" {
		line, x.rest = x.rest, ""
		return line, false, true
	}
	if n := len(x.stack); n > 0 && x.spend() {
		line, more := x.stack[n-1]()
		if !more {
			x.stack = x.stack[:n-1]
		}
		return line, line == "", true
	}
	for !x.ended && x.ready() {
		f := x.files[len(x.files)-1]
		if f.line == len(f.lines) {
			x.files = x.files[:len(x.files)-1]
			continue
		}
		line := f.lines[f.line]
		f.line++
		x.at = place{f.name, f.line}
		if line == "" {
			return "", true, true
		}
		if len(line) > lineOfKA {
			x.r.lose(x.at, "the line has %d bytes: keepalived reads %d of them at once, and takes the others for another line", len(line), lineOfKA)
		}
		if line = x.uncomment(line); line != "" {
			return line, false, true
		}
	}
	return "", false, false
}

// spend counts what is expanded, and ends the reading where it is too much.
func (x *textReader) spend() bool {
	if x.steps--; x.steps < 0 && !x.ended {
		x.stop("definitions and sequences make too many lines")
	}
	return !x.ended
}

// stop ends the reading.
func (x *textReader) stop(format string, args ...any) {
	x.r.lose(x.at, "%s: the rest is not read", fmt.Sprintf(format, args...))
	x.ended, x.stack, x.rest = true, nil, ""
}

// uncomment takes away the comment, and blanks at both ends; a backslash at the end stays. \# and
// \! are the characters themselves; what is quoted has no comment.
func (x *textReader) uncomment(s string) string {
	s = strings.TrimLeft(s, " \t")
	var b []byte
	quoted, goesOn, comment := false, false, -1
	for i := 0; i < len(s) && !goesOn; i++ {
		c := s[i]
		switch {
		case c == '"' && comment < 0:
			quoted = !quoted
		case c == '\\' && i+1 == len(s):
			goesOn = true
			continue
		case c == '\\':
			i++
			if quoted || s[i] != '#' && s[i] != '!' {
				b = append(b, c)
			}
			c = s[i]
		case (c == '#' || c == '!') && !quoted && comment < 0:
			comment = len(b)
		}
		b = append(b, c)
	}
	if quoted {
		x.r.lose(x.at, "an unclosed quotation mark")
	}
	if comment >= 0 {
		b = b[:comment]
	}
	s = strings.TrimRight(string(b), " \t")
	if goesOn {
		s += `\`
	}
	return s
}

// resolve carries out what a line means to the text level. It returns what is left of the line, or
// the definition that was begun if that goes on.
func (x *textReader) resolve(line string) (left string, open *definition) {
	for round := 0; ; round++ {
		if round == maxInLine {
			x.r.lose(x.at, "the definitions in this line do not end: the line is ignored")
			return "", nil
		}
		if line, _ = x.condition(line); line == "" {
			return "", nil
		}
		switch {
		case line[0] == '$':
			if d := x.define(line); d != nil {
				if d.goesOn {
					return "", d
				}
				return "", nil
			}
		case strings.HasPrefix(line, "~SEQ"), strings.HasPrefix(line, "~LST"):
			if err := x.sequence(line); err != nil {
				x.r.lose(x.at, "%.200s: %v", line, err)
			}
			return "", nil
		case line[0] == '~':
			return line, nil
		}
		replaced, changed := x.replace(line)
		if !changed {
			return replaced, nil
		}
		line = x.uncomment(replaced)
		if line == "" || line[0] != '@' && !strings.Contains(line, "$") {
			return line, nil
		}
	}
}

// condition takes away @id and @^id, or the whole line if it is for others.
func (x *textReader) condition(line string) (left string, ours bool) {
	word, isCondition := strings.CutPrefix(line, "@")
	if !isCondition {
		return line, true
	}
	word, not := strings.CutPrefix(word, "^")
	i := strings.IndexAny(word, " \t")
	if i < 0 || (word[:i] == x.id) == not {
		return "", false
	}
	return strings.TrimLeft(word[i:], " \t"), true
}

// cut returns the line up to its first brace, or the brace; what follows is the next line.
func (x *textReader) cut(line string) string {
	i := 0
	for ; i < len(line); i++ {
		if c := line[i]; c == '{' || c == '}' {
			break
		} else if c == '"' {
			n := strings.IndexByte(line[i+1:], '"')
			if n < 0 {
				return strings.TrimRight(line, " \t")
			}
			i += n + 1
		}
	}
	if i == len(line) {
		return strings.TrimRight(line, " \t")
	}
	if i == 0 {
		i = 1
	}
	x.rest = strings.Trim(line[i:], " \t")
	return strings.TrimRight(line[:i], " \t")
}

// directory is that of the file that is read, to which includes are relative.
func (x *textReader) directory() string {
	if n := len(x.files); n > 0 {
		return filepath.Dir(x.files[n-1].name)
	}
	return "."
}
