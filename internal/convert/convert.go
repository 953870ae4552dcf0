package convert

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Formats that are understood.
var Formats = []string{"keepalived", "ipvsadm", "ldirectord"}

// Options of a conversion.
type Options struct {
	Format    string // one of Formats; "" : as the text looks
	Interface string // of the leg; "" : what the file tells, or a placeholder
}

// File converts the file at path, and what it includes.
func File(path string, opt Options) ([]byte, []Note, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	return convert(path, text, opt, os.ReadFile, filepath.Glob)
}

// Text converts a text at hand; what it includes is read from the working directory. name stands for it in notes.
func Text(name string, text []byte, opt Options) ([]byte, []Note, error) {
	return convert(name, text, opt, os.ReadFile, filepath.Glob)
}

func convert(name string, text []byte, opt Options, read func(string) ([]byte, error), glob func(string) ([]string, error)) ([]byte, []Note, error) {
	r := &result{ifaces: map[netip.Addr]string{}}
	format := opt.Format
	if format == "" {
		format = guess(string(text))
	}
	switch format {
	case "keepalived":
		x := &reader{r: r, read: read, glob: glob, vars: map[string]string{}, open: map[string]bool{}}
		r.keepalived(x.file(name, text, 0))
	case "ipvsadm":
		r.ipvsadm(name, string(text))
	case "ldirectord":
		r.ldirectord(name, string(text))
	default:
		return nil, nil, fmt.Errorf("there is no format %q: there are %s", format, strings.Join(Formats, ", "))
	}
	out, err := r.write(name, opt.Interface)
	return out, r.notes, err
}

// guess tells the format by the first line that says something.
func guess(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "-A ") || strings.HasPrefix(line, "ipvsadm "):
			return "ipvsadm"
		case strings.HasPrefix(line, "virtual=") || strings.HasPrefix(line, "virtual6=") || strings.HasPrefix(line, "virtual ="):
			return "ldirectord"
		}
	}
	return "keepalived"
}
