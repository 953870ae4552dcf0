package convert

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// disk is where files are, so that tests need none.
type disk struct {
	read func(name string) ([]byte, error) // an included file
	glob func(pattern string) ([]string, error)
}

var realDisk = disk{read: readIncluded, glob: filepath.Glob}

// readIncluded reads a file that another one includes: a regular one that is no program, as
// keepalived wants it.
func readIncluded(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, errors.Unwrap(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file: keepalived skips it")
	case info.Mode()&0o111 != 0:
		return nil, errors.New("it is executable: keepalived skips it")
	}
	return readBounded(name)
}

// readBounded reads a file of any kind up to a size that no configuration has.
func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f)
}

// ReadAll reads a configuration, of which 16 MiB are read at most: more is an error.
func ReadAll(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("it has more than %d MiB: this is not a configuration", maxFile>>20)
	}
	return text, err
}

// include carries out an include statement: include, includea, includeb, includem, includer or
// includew.
func (x *textReader) include(line string) bool {
	i := strings.IndexAny(line, " \t")
	if i < 0 || !strings.HasPrefix(line, "include") || i > 8 || i == 8 && !strings.Contains("abmrw", line[7:8]) {
		return false
	}
	word, pattern := line[:i], strings.TrimLeft(line[i:], " \t")
	var names []string
	for _, p := range braces(pattern) {
		found, err := x.match(p)
		if err != nil {
			x.missing(word, p, err)
		}
		names = append(names, found...)
	}
	depth := 0
	if n := len(x.files); n > 0 {
		depth = x.files[n-1].depth + 1
	}
	if depth > maxDepth {
		x.r.lose(x.at, "%s %s: includes nested deeper than %d", word, pattern, maxDepth)
		return true
	}
	for _, name := range slices.Backward(names) { // the last of the stack is read first
		x.files = append(x.files, &textFile{name: name, depth: depth})
	}
	return true
}

// match are the files of a pattern. A name that begins with a dot is matched only by a pattern that
// does.
func (x *textReader) match(pattern string) (names []string, err error) {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(x.directory(), pattern)
	}
	names, err = x.disk.glob(pattern)
	if !strings.HasPrefix(filepath.Base(pattern), ".") {
		names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(filepath.Base(name), ".") })
	}
	if err == nil && len(names) == 0 {
		err = fs.ErrNotExist
	}
	return names, err
}

// missing notes a pattern without files. keepalived goes on after include; the other kinds keep it
// from starting.
func (x *textReader) missing(word, pattern string, err error) {
	wild := strings.ContainsAny(pattern, "*?[")
	switch {
	case strings.ContainsAny(pattern, `"'`):
		x.r.lose(x.at, "%s %s: %v: to keepalived the quotation marks belong to the name", word, pattern, err)
	case word == "include" && wild && errors.Is(err, fs.ErrNotExist), word == "includer" && wild, word == "includem" && wild, word == "includeb" && wild:
		x.r.remark(x.at, "%s %s: no file matches", word, pattern)
	case word == "include":
		x.r.lose(x.at, "include %s: %v", pattern, err)
	default:
		x.r.lose(x.at, "%s %s: %v; keepalived would not start", word, pattern, err)
	}
}

// ready opens the innermost file if it is not yet begun, or else takes it away. It returns false if
// there are no more.
func (x *textReader) ready() bool {
	for len(x.files) > 0 {
		n := len(x.files) - 1
		f := x.files[n]
		if f.begun {
			return true
		}
		err := x.open(f)
		if err == nil {
			return true
		}
		x.r.lose(x.at, "include %s: %v", f.name, err)
		x.files = x.files[:n]
	}
	return false
}

func (x *textReader) open(f *textFile) error {
	for _, o := range x.files {
		if o.begun && o.name == f.name {
			return errors.New("the file includes itself")
		}
	}
	if x.begun++; x.begun > maxFiles {
		return fmt.Errorf("there are more than %d files", maxFiles)
	}
	text, err := x.disk.read(f.name)
	if err != nil {
		return err
	}
	f.begun, f.lines = true, linesOf(text)
	return nil
}

// braces expands {a,b} as glob(3) does, into patterns of which there are 1024 at most.
func braces(pattern string) []string {
	for open := 0; open < len(pattern); open++ {
		if pattern[open] != '{' {
			continue
		}
		parts, end := alternatives(pattern[open:])
		if end < 0 {
			continue
		}
		var out []string
		for _, p := range parts {
			for _, whole := range braces(pattern[:open] + p + pattern[open+end:]) {
				if len(out) == 1024 || len(whole) > maxLine {
					return out
				}
				out = append(out, whole)
			}
		}
		return out
	}
	return []string{pattern}
}

// alternatives are the parts of the braces with which s begins; end is what comes after them, or -1
// if they are not closed.
func alternatives(s string) (parts []string, end int) {
	depth, from := 0, 1
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '{':
			depth++
		case c == ',' && depth == 1:
			parts, from = append(parts, s[from:i]), i+1
		case c == '}':
			if depth--; depth == 0 {
				return append(parts, s[from:i]), i + 1
			}
		}
	}
	return nil, -1
}
