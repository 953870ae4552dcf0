package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v3"

	"shunt/internal/readfile"
)

const (
	maxText   = readfile.MaxConfig // bytes of all files together
	maxValues = 4 << 20            // values of all files together, counted by what separates them
	maxNested = 100                // brackets in brackets; a configuration needs 4
)

// A document is one file of a configuration.
type document struct {
	index   int
	name    string
	text    []byte
	root    *yaml.Node // its mapping; nil if it is empty, or broken
	foreign bool       // it is no configuration, so that nothing is quoted of it
}

// entry is a key of the top level and its value.
type entry struct {
	doc        *document
	key, value *yaml.Node
}

// source is all files of a configuration: what is read, and what errors point into.
type source struct {
	docs     []*document // the main file is the first
	entries  []entry     // all but services and include, each key once
	services []entry     // of each file
	items    int         // in all of these
	problems problems
	env      environment
	mu       sync.Mutex // of a configuration in use: guards all but docs' names and texts
	values   int
}

// full reports whether so much is wrong that nothing more is noted.
func (s *source) full() bool { return len(s.problems.list) >= maxNoted }

// add notes what is wrong at a node.
func (s *source) add(d *document, n *yaml.Node, format string, args ...any) {
	s.problems.add(problem{d, n.Line, n.Column, sprintf(format, args...)})
}

// open makes a document of a text and adds its keys to the source. It reports whether it can be
// used.
func (s *source) open(name string, text []byte) *document {
	d := &document{index: len(s.docs), name: name, text: text}
	s.docs = append(s.docs, d)
	d.foreign = !topKey.Match(text) && len(bytes.TrimSpace(text)) > 0
	if line, column, message := s.scan(text); message != "" {
		s.problems.add(problem{d, line, column, message})
		return d
	}
	root, err := parse(text)
	switch {
	case err != nil && d.foreign:
		s.problems.add(problem{doc: d, message: "this is not a configuration of shunt, and not YAML"})
	case err != nil:
		line, column, message := d.place(err)
		s.problems.add(problem{d, line, column, message})
	case root == nil:
	case root.Kind != yaml.MappingNode && d.foreign:
		s.problems.add(problem{doc: d, message: notOurs})
	case root.Kind != yaml.MappingNode:
		s.add(d, root, "%s where a block of keys is expected", kindOf(root))
	case d.foreign && len(root.Content) > 0 && !slices.ContainsFunc(namesOf(fileType), func(k string) bool { return find(root, k) != nil }):
		s.problems.add(problem{doc: d, message: notOurs})
	default:
		d.root = root
		d.foreign = false
	}
	return d
}

const notOurs = "this is not a configuration of shunt: it has none of its keys, such as legs and services"

// topKey matches a file that has a key of the top level.
var topKey = regexp.MustCompile(`(?m)^"?(` + strings.Join(namesOf(fileType), "|") + `)"?[ \t]*:([ \t\r]|$)`)

// scan finds what is no text, and what is too much, before anything is made of it.
func (s *source) scan(text []byte) (line, column int, message string) {
	line, column = 1, 1
	depth := 0
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\n':
			s.values++
			line, column = line+1, 0
		case c == '[' || c == '{':
			depth++
			s.values++
		case c == ']' || c == '}':
			depth = max(depth-1, 0)
		case c == ',' || c == ':' || c == '-' || c == '?':
			if i+1 == len(text) || c == ',' || bytes.IndexByte([]byte(" \t\r\n"), text[i+1]) >= 0 {
				s.values++
			}
		case c < ' ' && c != '\t' && c != '\r', c == 0x7f:
			return line, column, fmt.Sprintf("a control character (%#U), which YAML does not allow", rune(c))
		}
		if depth > maxNested {
			return line, column, fmt.Sprintf("brackets in brackets, %d deep: at most %d are read", depth, maxNested)
		}
		if s.values > maxValues {
			return line, column, fmt.Sprintf("more than %d values: more are not read", maxValues)
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRune(text[i:]); r == utf8.RuneError && size == 1 {
				return line, column, fmt.Sprintf("a byte that is not UTF-8 (0x%02x)", c)
			}
		}
		i += size
		column++
	}
	return 0, 0, ""
}

var errDocuments = errors.New("several YAML documents; a configuration is one")

// parse returns the root of a text's tree, nil if it is empty. A library that panics over a broken
// file must not end a running director.
func parse(text []byte) (root *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, fmt.Errorf("this YAML cannot be understood (%v)", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if err := d.Decode(&more); err == nil {
		return nil, errDocuments
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return nil, nil
	}
	return doc.Content[0], nil
}

var (
	lineOf   = regexp.MustCompile(`^(?:line (\d+): )?(?s:(.*))$`)
	anchorOf = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// place finds out of an error of the library where it is.
func (d *document) place(err error) (line, column int, message string) {
	if errors.Is(err, errDocuments) {
		return 0, 0, err.Error()
	}
	m := lineOf.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: "))
	message = m[2]
	line, _ = strconv.Atoi(m[1]) // 0: the library names no line if it is the first
	if line == 0 || strings.HasPrefix(message, "did not find expected") {
		line++ // here it counts from 0
	}
	switch missing, ok := strings.CutPrefix(message, "did not find expected "); {
	case missing == "key":
		message = "the line is no key of the block that it is in: look at the indentation"
	case ok:
		message = missing + " is missing"
	}
	if a := anchorOf.FindStringSubmatch(message); a != nil {
		message = sprintf("there is no anchor &%s before this alias", a[1])
		if i := bytes.Index(d.text, []byte("*"+a[1])); i >= 0 {
			before := d.text[:i]
			return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1, message
		}
	}
	n := 0
	for raw := range bytes.Lines(d.text) {
		if n++; n == line {
			return line, 1 + len(raw) - len(bytes.TrimLeft(raw, " \t")), "this is not YAML: " + message
		}
	}
	return max(n, 1), 1, "this is not YAML: " + message
}

// merge sorts the keys of all files: lists of services are joined, all else is in one place only.
func (s *source) merge() {
	s.entries, s.services, s.items = nil, nil, 0
	first := map[string]entry{} // where each key is
	for _, d := range s.docs {
		if d.root == nil {
			continue
		}
		lists := len(s.services) // of the files before
		for key, value := range pairs(d.root) {
			e := entry{d, key, value}
			list, _ := follow(value)
			before, twice := first[key.Value]
			switch {
			case d.index > 0 && key.Value == "include":
				s.add(d, key, "include is for the main file, %s, only", verbatim(s.docs[0].name))
			case twice && before.doc == d || key.Value == "services" && len(s.services) > lists:
				s.add(d, key, "key %q is there twice: first in line %d", key.Value, before.key.Line)
			case key.Value == "services" && (!twice || list.Kind == yaml.SequenceNode):
				s.services = append(s.services, e) // one that is no list is told when it is read
				s.items += len(list.Content)
			case twice && key.Value != "x-templates":
				s.add(d, key, "key %q is there twice: first in %s; only lists of services are joined", key.Value,
					verbatim(fmt.Sprintf("%s:%d:%d", before.doc.name, before.key.Line, before.key.Column)))
				continue
			default:
				s.entries = append(s.entries, e)
			}
			if !twice || before.doc != d {
				first[key.Value] = e
			}
		}
	}
}

// digest names the configuration: the text of its files, and what the environment had for it.
func (s *source) digest() [sha256.Size]byte {
	if len(s.docs) == 1 && len(s.env.used) == 0 {
		return sha256.Sum256(s.docs[0].text)
	}
	h := sha256.New()
	put := func(b []byte) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(b))) // a hash takes all
		h.Write(b)
	}
	for _, d := range s.docs {
		put([]byte(d.name))
		put(d.text)
	}
	for _, name := range s.env.names() {
		put([]byte(name))
		put([]byte(s.env.used[name]))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// forget lets go of the trees, which take much memory: of a configuration in use there are rarely
// errors.
func (s *source) forget() {
	s.entries, s.services, s.problems = nil, nil, problems{}
	for _, d := range s.docs {
		d.root = nil
	}
}

// remember makes them again.
func (s *source) remember() {
	if s.entries != nil || s.services != nil {
		return
	}
	for _, d := range s.docs {
		d.root, _ = parse(d.text)
	}
	s.merge()
	s.problems = problems{}
}

// position says where the value at a path is.
func (s *source) position(path string) verbatim {
	d, n := s.find(path)
	return verbatim(fmt.Sprintf("%s:%d:%d", d.name, n.Line, n.Column))
}

// wrong makes an error about the value at a path of a configuration in use.
func (s *source) wrong(path, format string, args ...any) error {
	return s.all([]misplaced{{path, sprintf(format, args...)}})
}

// misplaced is what is wrong with the value at a path.
type misplaced struct{ path, message string }

// all makes one error of several. Without a path it has no place.
func (s *source) all(list []misplaced) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range list {
		if strings.HasPrefix(m.path, "$") {
			s.remember()
			break
		}
	}
	defer s.forget()
	for _, m := range list {
		d, n := s.docs[0], &yaml.Node{}
		if strings.HasPrefix(m.path, "$") {
			d, n = s.find(m.path)
		}
		s.problems.add(problem{d, n.Line, n.Column, m.message})
	}
	return s.problems.err()
}
