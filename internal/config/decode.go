package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode"

	yaml "go.yaml.in/yaml/v3"
)

// The library makes a tree of the file; this file makes the types of file.go of the tree, and tells
// everything that does not fit, each with its place. Numbers and times stay text here: validate.go
// knows what they may be.

// A scalar is a value of which more than one form is understood.
type scalar struct {
	text   string
	set    bool
	quoted bool
}

const (
	maxRepeated = 1 << 20 // values that aliases and merges repeat
	maxMerges   = 20      // mappings that are merged into mappings that are merged
)

// decoder reads the tree of one file.
type decoder struct {
	src      *source
	doc      *document
	path     []string        // to the value that is being read
	failed   map[string]bool // paths of values that are there, and wrong: validate.go does not miss them
	aliases  int             // how many are being followed
	repeated int
}

var (
	fileType       = reflect.TypeFor[file]()
	serviceType    = reflect.TypeFor[serviceFile]()
	scalarType     = reflect.TypeFor[scalar]()
	realserverType = reflect.TypeFor[realserverFile]()
)

// decode reads all files of the source. It returns nil if aliases repeat too much.
func (s *source) decode(failed map[string]bool) *file {
	f := new(file)
	d := &decoder{src: s, failed: failed}
	v := reflect.ValueOf(f).Elem()
	for _, e := range s.entries {
		d.doc = e.doc
		d.field(e.key, e.value, v)
	}
	for _, e := range s.services {
		d.doc = e.doc
		list, _ := follow(e.value)
		if list.Kind != yaml.SequenceNode {
			d.field(e.key, e.value, v)
			continue
		}
		if f.Services == nil { // an empty list is meant; nothing behind the key is a slip
			f.Services = make([]serviceFile, 0, s.items)
		}
		for i, n := range list.Content {
			f.Services = append(f.Services, serviceFile{})
			d.path = append(d.path, "services", "["+strconv.Itoa(len(f.Services)-1)+"]")
			d.value(list.Content[i], reflect.ValueOf(&f.Services[len(f.Services)-1]).Elem())
			d.path = d.path[:0]
			if n.Kind == yaml.ScalarNode && isNull(n) {
				d.wrong(n, "an empty service")
			}
		}
	}
	if d.repeated >= maxRepeated {
		return nil
	}
	return f
}

// wrong notes what is wrong with the value that is being read.
func (d *decoder) wrong(n *yaml.Node, format string, args ...any) {
	d.src.add(d.doc, n, format, args...)
	d.fail("")
}

// fail notes that the value that is being read, or one below it, is there and wrong.
func (d *decoder) fail(below string) {
	path := "$"
	for _, s := range d.path {
		if s[0] != '[' {
			path += "."
		}
		path += s
	}
	if below != "" {
		path += "." + below
	}
	d.failed[path] = true
}

// exhausted counts what aliases repeat, and tells once if it is too much.
func (d *decoder) exhausted(n *yaml.Node) bool {
	if d.aliases == 0 {
		return false
	}
	if d.repeated++; d.repeated == maxRepeated {
		d.src.problems = problems{} // all else may be wrong because the rest is not read
		d.wrong(n, "aliases repeat more than %d values: more are not read", maxRepeated)
	}
	return d.repeated >= maxRepeated
}

func (d *decoder) value(n *yaml.Node, v reflect.Value) {
	if d.exhausted(n) {
		return
	}
	if to, alias := follow(n); alias {
		d.aliases++
		d.value(to, v)
		d.aliases--
		return
	}
	if isNull(n) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer: // a switch that may be left out
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem())
	case reflect.Slice:
		d.list(n, v)
	case reflect.Struct:
		if v.Type() != scalarType {
			d.mapping(n, v)
		} else if text, ok := d.text(n, "one value"); ok {
			*v.Addr().Interface().(*scalar) = scalar{text, true, n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0}
		}
	case reflect.String:
		if text, ok := d.text(n, "text"); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		if text, ok := d.text(n, "true or false"); ok {
			d.truth(n, v, text)
		}
	}
}

func (d *decoder) truth(n *yaml.Node, v reflect.Value, text string) {
	switch strings.ToLower(text) {
	case "true", "yes", "on":
		v.SetBool(true)
	case "false", "no", "off":
		v.SetBool(false)
	default:
		d.wrong(n, "%s is %q: write true or false", d.name(), text)
	}
}

// name is that of the key that is being read.
func (d *decoder) name() string {
	for i := len(d.path) - 1; i >= 0; i-- {
		if d.path[i][0] != '[' {
			return d.path[i]
		}
	}
	return "the file"
}

// text is a scalar's, with what the environment has for it.
func (d *decoder) text(n *yaml.Node, expected string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, "%s where %s is expected", kindOf(n), expected)
		return "", false
	}
	text, err := d.src.env.expand(n.Value)
	if err != nil {
		d.wrong(n, "%v", err)
		return "", false
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			d.wrong(n, "%s has a line break or a character that cannot be printed (%#U)", d.name(), r)
			return "", false
		}
	}
	return text, true
}

func (d *decoder) list(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, "%s where a list is expected: %s", kindOf(n), listHint(d.name()))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	d.path = append(d.path, "")
	for i, item := range n.Content {
		d.path[len(d.path)-1] = "[" + strconv.Itoa(i) + "]"
		d.value(item, v.Index(i))
		if d.aliases > 0 && d.repeated >= maxRepeated {
			break
		}
	}
	d.path = d.path[:len(d.path)-1]
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, "%s where %s is expected%s", kindOf(n), "a block of keys", itemHint(v.Type(), n))
		return
	}
	d.keys(n, v, 0, 0)
}

// keys reads a mapping's own keys, and of what is merged into it those that it has not; seen are
// the fields that are there.
func (d *decoder) keys(n *yaml.Node, v reflect.Value, seen uint64, merges int) uint64 {
	if merges > maxMerges {
		d.wrong(n, "merges in merges, more than %d deep: they are not read", maxMerges)
		return seen
	}
	own := seen
	var mine uint64
	var firsts [64]*yaml.Node
	for key, value := range pairs(n) {
		if d.exhausted(key) {
			return own
		}
		if isMerge(key) {
			continue
		}
		i, known := fieldsOf(v.Type()).index[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.wrong(key, "%s where a key is expected", kindOf(key))
		case !known:
			d.unknown(key, v.Type())
		case mine&(1<<i) != 0:
			d.wrong(key, "key %q is there twice: first in line %d", key.Value, firsts[i].Line)
		default:
			mine |= 1 << i
			firsts[i] = key
			if seen&(1<<i) == 0 {
				d.at(key.Value, value, v.Field(i))
			}
		}
	}
	own |= mine
	for key, value := range pairs(n) {
		if isMerge(key) {
			own = d.merge(value, v, own, merges)
		}
	}
	return own
}

// merge reads the value of <<: a mapping, or a list of them of which the first that has a key
// counts.
func (d *decoder) merge(n *yaml.Node, v reflect.Value, seen uint64, merges int) uint64 {
	to, _ := follow(n)
	list := []*yaml.Node{n}
	if to.Kind == yaml.SequenceNode {
		list = to.Content
	}
	d.aliases++
	defer func() { d.aliases-- }()
	for _, item := range list {
		if d.exhausted(item) {
			break
		}
		m, _ := follow(item)
		if m.Kind != yaml.MappingNode {
			d.wrong(item, "%s where a block of keys is expected: << merges one, or a list of them", kindOf(m))
			continue
		}
		seen = d.keys(m, v, seen, merges+1)
	}
	return seen
}

// field reads a key of the top level.
func (d *decoder) field(key, value *yaml.Node, v reflect.Value) {
	if i, known := fieldsOf(v.Type()).index[key.Value]; known {
		d.at(key.Value, value, v.Field(i))
		return
	}
	d.unknown(key, v.Type())
}

// at reads the value of a key. What is under x-templates is read where it is repeated.
func (d *decoder) at(key string, value *yaml.Node, v reflect.Value) {
	if v.Kind() == reflect.Interface {
		return
	}
	d.path = append(d.path, key)
	d.value(value, v)
	d.path = d.path[:len(d.path)-1]
}

func (d *decoder) unknown(key *yaml.Node, in reflect.Type) {
	if d.src.full() {
		d.src.problems.more++
		return
	}
	hint, meant := keyHint(key.Value, in)
	d.src.add(d.doc, key, "unknown key %q%s", key.Value, hint)
	if meant != "" {
		d.fail(meant)
	}
}

// fields are the keys of a type.
type fields struct {
	names []string
	index map[string]int
}

var known sync.Map // by reflect.Type, of *fields

func fieldsOf(t reflect.Type) *fields {
	if f, ok := known.Load(t); ok {
		return f.(*fields)
	}
	f := &fields{index: map[string]int{}}
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("yaml")
		f.names, f.index[name] = append(f.names, name), i
	}
	if len(f.names) > 64 {
		panic(fmt.Sprintf("%s has more keys than a set of bits", t))
	}
	known.Store(t, f)
	return f
}

func namesOf(t reflect.Type) []string { return fieldsOf(t).names }
