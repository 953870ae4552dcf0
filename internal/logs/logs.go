// Package logs makes the director's logger: lines of text for a terminal or of JSON for machines,
// with the priorities of the journal where that reads them.
package logs

import (
	"context"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// New returns a logger to w. format is text, json, or auto: text on a terminal and JSON elsewhere.
// If w is a stream of journald each line begins with its priority as in sd-daemon(3), which
// journald takes off.
func New(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	asJSON := format == "json" || format == "auto" && !isTerminal(w)
	if !isJournal(w, os.Getenv("JOURNAL_STREAM")) {
		return slog.New(handler(w, asJSON, level))
	}
	return slog.New(journaled(w, asJSON, level))
}

func handler(w io.Writer, asJSON bool, level slog.Leveler) slog.Handler {
	if asJSON {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: asText})
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}

// asText has JSON say what text would: 1m30s and not a number of nanoseconds, the name of a state
// and not its number, a MAC and not its bytes; and a list of such as a list.
func asText(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindAny:
		a.Value = slog.AnyValue(inWords(a.Value.Any()))
	}
	return a
}

func inWords(x any) any {
	switch x := x.(type) {
	case nil, error, time.Time, encoding.TextMarshaler, *slog.Source, slog.Level:
		return x // of which JSON makes text by itself
	case fmt.Stringer:
		return x.String()
	}
	v := reflect.ValueOf(x)
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() == reflect.Uint8 {
		return x
	}
	list := make([]any, v.Len())
	for i := range list {
		list[i] = inWords(v.Index(i).Interface())
	}
	return list
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// isJournal reports whether w is the stream that journald gave this process: systemd.exec(5),
// $JOURNAL_STREAM.
func isJournal(w io.Writer, stream string) bool {
	f, ok := w.(*os.File)
	var st unix.Stat_t
	return ok && stream != "" && unix.Fstat(int(f.Fd()), &st) == nil && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journal is a handler for each priority: debug, info, warning and error.
type journal [4]slog.Handler

// priorities are those of syslog(3), by index of a journal.
var priorities = [4]string{"<7>", "<6>", "<4>", "<3>"}

func journaled(w io.Writer, asJSON bool, level slog.Leveler) *journal {
	j := new(journal)
	for i := range j {
		j[i] = handler(&prefixed{w, priorities[i]}, asJSON, level)
	}
	return j
}

func index(level slog.Level) int {
	switch {
	case level < slog.LevelInfo:
		return 0
	case level < slog.LevelWarn:
		return 1
	case level < slog.LevelError:
		return 2
	}
	return 3
}

func (j *journal) Enabled(ctx context.Context, level slog.Level) bool {
	return j[0].Enabled(ctx, level)
}

func (j *journal) Handle(ctx context.Context, r slog.Record) error {
	return j[index(r.Level)].Handle(ctx, r)
}

func (j *journal) with(change func(slog.Handler) slog.Handler) slog.Handler {
	out := new(journal)
	for i := range j {
		out[i] = change(j[i])
	}
	return out
}

func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return j.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (j *journal) WithGroup(name string) slog.Handler {
	return j.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

// prefixed writes something before each line. A handler writes a line at once, and quotes line ends
// within it.
type prefixed struct {
	w      io.Writer
	prefix string
}

func (p *prefixed) Write(line []byte) (int, error) {
	n, err := p.w.Write(append([]byte(p.prefix), line...)) // at once: others write to the same stream
	return max(n-len(p.prefix), 0), err
}
