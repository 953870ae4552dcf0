// Package manpage makes manual pages of documents in Markdown, so that there is one source of both.
package manpage

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// A Page is what the head of a manual page says.
type Page struct {
	Name    string // such as shunt.yaml
	Section string // such as 5
	Summary string // one line, for apropos(1)
	Source  string // program and version
	SeeAlso string
}

// Render makes the page of a document: its first heading is the page's title, those of the second
// level are its sections. Tables become lists, as they are too wide for a terminal, and links
// become their text.
func Render(p Page, document string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%% %q %q \"\" %q \"shunt\"\n\n# NAME\n\n%s - %s\n\n# DESCRIPTION\n\n", strings.ToUpper(p.Name), p.Section, p.Source, p.Name, p.Summary)
	var header []string // of the table that is being read
	code := false
	for line := range strings.Lines(document) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		isRow := !code && strings.HasPrefix(line, "|")
		switch {
		case !isRow && len(header) > 0:
			header = nil
			fallthrough
		case !isRow:
			b.WriteString(text(line, code) + "\n")
		case header == nil:
			header = cells(line)
		case !strings.HasPrefix(line, "|--"):
			b.WriteString(item(header, cells(line)))
		}
	}
	if p.SeeAlso != "" {
		fmt.Fprintf(&b, "\n# SEE ALSO\n\n%s\n", p.SeeAlso)
	}
	return md2man.Render([]byte(b.String()))
}

var link = regexp.MustCompile(`\[([^\]]+)\]\(([^)#]*)(#[^)]*)?\)`)

// text makes of a line one of the page.
func text(line string, code bool) string {
	if code || strings.HasPrefix(line, "    ") {
		return line
	}
	line = link.ReplaceAllStringFunc(line, func(s string) string {
		m := link.FindStringSubmatch(s)
		if m[2] == "" || m[1] == m[2] {
			return m[1]
		}
		return m[1] + " (" + m[2] + ")"
	})
	switch heading := strings.TrimLeft(line, "#"); len(line) - len(heading) {
	case 1:
		return "" // the title
	case 2:
		return "# " + strings.ToUpper(strings.TrimSpace(heading))
	case 3:
		return "### " + strings.TrimSpace(heading)
	}
	return line
}

func cells(row string) []string {
	list := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
	for i := range list {
		list[i] = text(strings.TrimSpace(list[i]), false)
	}
	return list
}

// item is a row of a table as an entry of a list: the first cell, the last one, and those between by their headers.
func item(header, row []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n: ", row[0])
	last := len(row) - 1
	if last > 0 && row[last] != "" {
		b.WriteString(strings.TrimRight(row[last], ".") + ".")
	}
	var details []string
	for i := 1; i < last; i++ {
		if row[i] != "" && i < len(header) {
			details = append(details, "*"+header[i]+"*: "+row[i])
		}
	}
	if len(details) > 0 {
		b.WriteString(" (" + strings.Join(details, "; ") + ")")
	}
	b.WriteString("\n")
	return b.String()
}
