package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
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

const (
	maxTold    = 20     // errors that are told of a configuration; the others are counted
	maxNoted   = 10_000 // errors that are noted, from which those are chosen that come first in the file
	maxQuoted  = 80     // bytes that an error quotes of a value
	maxMessage = 1000   // bytes of a message
	maxLine    = 160    // characters that an excerpt has of a line
)

// A problem is an error without its excerpt.
type problem struct {
	doc          *document
	line, column int
	message      string
}

// problems are what is wrong with a configuration, in no order.
type problems struct {
	list []problem
	seen map[problem]bool // what an alias repeats is told once
	more int              // errors that were not noted
}

func (p *problems) add(one problem) {
	one.message = shorten(one.message, maxMessage)
	switch {
	case p.seen[one]:
		return
	case len(p.list) == maxNoted:
		p.more++
		return
	case p.seen == nil:
		p.seen = map[problem]bool{}
	}
	p.seen[one] = true
	p.list = append(p.list, one)
}

// err is nil if there are no problems, or else the first of them in the order of the files.
func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.doc.index, b.doc.index), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	var errs []error
	for _, one := range p.list[:min(len(p.list), maxTold)] {
		errs = append(errs, one.doc.at(one.line, one.column, one.message))
	}
	if n := len(p.list) - len(errs) + p.more; n > 0 {
		errs = append(errs, &Error{File: p.list[0].doc.name, Message: fmt.Sprintf("and %d more errors", n)})
	}
	return errors.Join(errs...)
}

// shorten cuts a text that is longer than n bytes.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// verbatim is a text that is not cut.
type verbatim string

// sprintf is fmt.Sprintf with texts that are cut to what an error may quote.
func sprintf(format string, args ...any) string {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = shorten(s, maxQuoted)
		}
	}
	return fmt.Sprintf(format, args...)
}

// at makes an error about a place of the document.
func (d *document) at(line, column int, message string) *Error {
	e := &Error{File: d.name, Line: line, Column: column, Message: message}
	if !d.foreign {
		e.Excerpt = excerpt(d.text, line, column)
	}
	return e
}

// excerpt is the line, two before it and one behind it, with a mark under the column.
func excerpt(text []byte, line, column int) string {
	var b strings.Builder
	n := 0
	for raw := range strings.Lines(string(text)) {
		if n++; n < line-2 {
			continue
		}
		if n > line+1 {
			break
		}
		shown, at := window(strings.TrimRight(raw, "\r\n"), column)
		mark := " "
		if n == line {
			mark = ">"
		}
		fmt.Fprintf(&b, "%s %4d | %s\n", mark, n, shown)
		if n == line {
			fmt.Fprintf(&b, "       | %s^\n", pad(shown, at-1))
		}
	}
	if n < line || line < 1 {
		return ""
	}
	return strings.TrimRight(b.String(), "\n")
}

// window is the part of a line around a column, printable, and where the column is in it.
func window(line string, column int) (string, int) {
	runes := []rune(shorten(line, 64<<10))
	from := 0
	if len(runes) > maxLine {
		from = max(min(column-maxLine/2, len(runes)-maxLine), 0)
		runes = runes[from : from+maxLine]
	}
	for i, r := range runes {
		if r != '\t' && !unicode.IsPrint(r) {
			runes[i] = unicode.ReplacementChar
		}
	}
	return string(runes), column - from
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
