package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// An Error is one thing that is wrong with a configuration file.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // counted from 1; 0 if the error has no place
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Excerpt string `json:"excerpt,omitempty"` // lines of the file around the place, marked; may be empty
}

// Error is the message behind its place, and the excerpt on lines of its own.
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d:%d", e.Line, e.Column)
	}
	s += ": " + e.Message
	if e.Excerpt != "" {
		s += "\n" + e.Excerpt
	}
	return s
}

// Errors lists what is in an error of Load or Parse, one by one.
func Errors(err error) []Error {
	out := []Error{}
	var one *Error
	switch joined, ok := err.(interface{ Unwrap() []error }); {
	case err == nil:
	case ok:
		for _, e := range joined.Unwrap() {
			out = append(out, Errors(e)...)
		}
	case errors.As(err, &one):
		out = append(out, *one)
	default:
		out = append(out, Error{Message: err.Error()})
	}
	return out
}

// source is the text that errors point into.
type source struct {
	file string
	text []byte
	ast  *ast.File // nil until there is an error to be placed
}

// yamlError turns an error of the YAML library into ours.
func (s *source) yamlError(err error) error {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil || y.GetToken().Position == nil {
		return &Error{File: s.file, Message: err.Error()}
	}
	p := y.GetToken().Position
	return s.at(p.Line, p.Column, plain(y.GetMessage()))
}

// plain rewords the library's messages for those who do not program.
func plain(msg string) string {
	if name, ok := strings.CutPrefix(msg, "unknown field "); ok {
		return "unknown key " + name + "; docs/configuration.md has all of them"
	}
	if i := strings.Index(msg, " of type "); strings.HasPrefix(msg, "cannot unmarshal ") && i > 0 {
		what := strings.TrimPrefix(msg[:strings.Index(msg, " into Go ")], "cannot unmarshal ")
		want := msg[i+len(" of type "):]
		return fmt.Sprintf("a %s where %s is expected", what, kindName(want))
	}
	return msg
}

func kindName(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.Contains(goType, "int"):
		return "a number"
	case strings.Contains(goType, "bool"):
		return "true or false"
	case strings.Contains(goType, "string"):
		return "text"
	}
	return "a block of keys"
}

// at makes an error about a place.
func (s *source) at(line, column int, message string) *Error {
	return &Error{File: s.file, Line: line, Column: column, Message: message, Excerpt: s.excerpt(line, column)}
}

func (s *source) excerpt(line, column int) string {
	lines := strings.Split(strings.TrimRight(string(s.text), "\n"), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	var b strings.Builder
	for n := max(line-2, 1); n <= min(line+1, len(lines)); n++ {
		mark := " "
		if n == line {
			mark = ">"
		}
		fmt.Fprintf(&b, "%s %4d | %s\n", mark, n, lines[n-1])
		if n == line {
			fmt.Fprintf(&b, "       | %s^\n", pad(lines[n-1], column-1))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// pad is white space as wide as the first n characters of a line: tabs stay tabs.
func pad(line string, n int) string {
	var b strings.Builder
	for _, r := range line {
		if n--; n < 0 {
			break
		}
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// wrong makes an error about the value at a path such as $.services[0].port; if that is not in the file, about the
// nearest thing around it.
func (s *source) wrong(path, format string, args ...any) (e *Error) {
	msg := fmt.Sprintf(format, args...)
	defer func() {
		if recover() != nil {
			e = &Error{File: s.file, Message: msg} // the library could not follow the path
		}
	}()
	if s.parse() != nil {
		return &Error{File: s.file, Message: msg}
	}
	for p := path; p != "" && p != "$"; p = parent(p) {
		yp, err := yaml.PathString(p)
		if err != nil {
			continue
		}
		n, err := yp.FilterFile(s.ast)
		if err != nil || n == nil || n.GetToken() == nil {
			continue
		}
		pos := n.GetToken().Position
		if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
			pos = m.Values[0].Key.GetToken().Position // its token would be the first colon
		}
		if m, ok := n.(*ast.MappingValueNode); ok {
			pos = m.Key.GetToken().Position
		}
		return s.at(pos.Line, pos.Column, msg)
	}
	return &Error{File: s.file, Message: msg}
}

// parent is the path of what holds the value at path.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}
