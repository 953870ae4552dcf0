package convert

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"shunt/internal/ipvsadm"
)

// Formats that are understood.
var Formats = []string{"keepalived", "ipvsadm", "ldirectord"}

// Options of a conversion.
type Options struct {
	Format    string // one of Formats; "" : as the text looks
	Interface string // of the leg; "" : what the file tells, or a placeholder
	ConfigID  string // of keepalived, for lines with @id; "" : the host's name, as keepalived has it

	limits limits // usual if it is zero
}

// limits bound what a file can make.
type limits struct {
	steps    int // lines of definitions and sequences, and substitutions
	services int
}

var usual = limits{steps: 1 << 21, services: 1 << 16}

// A Result is what became of a file.
type Result struct {
	Config []byte // what `shunt check` accepts, unless there is an error too
	Notes  []Note // by file and line
}

// Losses is how many of the notes say that Config lacks something.
func (r Result) Losses() (n int) {
	for _, note := range r.Notes {
		if note.Loss {
			n++
		}
	}
	return n
}

// File converts the file at path, and what it includes. It may be a pipe. An error says that there
// is nothing to serve, or that the file cannot be read; the notes say why.
func File(path string, opt Options) (Result, error) {
	text, err := readBounded(path)
	if err != nil {
		return Result{}, err
	}
	return Text(path, text, opt)
}

// Text converts a text at hand; what it includes is read from the working directory. name stands
// for it in notes.
func Text(name string, text []byte, opt Options) (Result, error) {
	return convert(name, text, opt, realDisk, ipvsadm.SystemNames())
}

func convert(name string, text []byte, opt Options, d disk, names ipvsadm.Names) (Result, error) {
	r := newResult(names)
	r.limits = cmp.Or(opt.limits, r.limits)
	if err := r.read(name, text, opt, d); err != nil {
		return Result{}, err
	}
	out, err := r.write(name, opt.Interface)
	return Result{out, r.notes}, err
}

func newResult(names ipvsadm.Names) *result {
	return &result{ifaces: map[netip.Addr]string{}, known: map[serviceKey]*service{}, names: names, limits: usual}
}

// read makes services of the text, as the program that it is for would.
func (r *result) read(name string, text []byte, opt Options, d disk) error {
	switch format := cmp.Or(opt.Format, guess(string(text))); format {
	case "keepalived":
		r.keepalived(newTextReader(r, d, name, text, cmp.Or(opt.ConfigID, hostID())).tree())
	case "ipvsadm":
		r.ipvsadm(name, string(text))
	case "ldirectord":
		r.ldirectord(name, string(text))
	default:
		return fmt.Errorf("there is no format %q: there are %s", format, strings.Join(Formats, ", "))
	}
	return nil
}

// What a line of each format looks like.
var (
	ipvsadmLine    = regexp.MustCompile(`^(ipvsadm\s+)?(-[ACEDSRZ]|--(add-service|set|clear))(\s|$)`)
	ldirectordLine = regexp.MustCompile(`^(virtual6?|checktimeout|checkinterval|autoreload|quiescent|negotiatetimeout|logfile|fork|supervised|emailalert)\s*=`)
)

// guess tells the format by the first line that only one of them has.
func guess(text string) string {
	for line := range strings.Lines(text) {
		switch {
		case ipvsadmLine.MatchString(strings.TrimSpace(line)):
			return "ipvsadm"
		case ldirectordLine.MatchString(line):
			return "ldirectord"
		}
	}
	return "keepalived"
}
