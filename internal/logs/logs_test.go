package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/arpd"
	"shunt/forwarder/frame"
)

// In JSON states, times, addresses and MACs are text, and lists are lists.
func TestJSON(t *testing.T) {
	var b bytes.Buffer
	log := New(&b, "auto", slog.LevelInfo)
	log.Info("it", "state", arpd.Failed, "took", 90*time.Second, "mac", frame.MAC{2, 0, 0, 0, 1, 1}, "address", netip.MustParseAddr("10.0.0.1"),
		"networks", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, "macs", []frame.MAC{{2, 0, 0, 0, 1, 2}},
		"none", []netip.Prefix(nil), "names", []string{"a", "b"}, "error", errors.New("an\x1b error"), "n", 7, "yes", true, "nothing", nil,
		slog.Group("by", "waited", time.Millisecond))
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got["time"])); err != nil {
		t.Error(err)
	}
	delete(got, "time")
	want := map[string]any{
		"level": "INFO", "msg": "it", "state": "failed", "took": "1m30s", "mac": "02:00:00:00:01:01", "address": "10.0.0.1",
		"networks": []any{"10.0.0.0/8", "fd00::/8"}, "macs": []any{"02:00:00:00:01:02"}, "none": []any{}, "names": []any{"a", "b"}, "error": "an\x1b error",
		"n": 7.0, "yes": true, "nothing": nil, "by": map[string]any{"waited": "1ms"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("a control character is written as such: %q", b.String())
	}
}

// Where journald reads, each line begins with its priority; elsewhere none does.
func TestJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(w.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, journal := range map[string]bool{fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, "1:1": false, "": false} {
		for _, format := range []string{"text", "json"} {
			t.Setenv("JOURNAL_STREAM", stream)
			log := New(w, format, slog.LevelDebug).With("a", 1).WithGroup("g")
			log.Debug("one")
			log.Info("two", "text", "with\nan end of line")
			log.Warn("three")
			log.Error("four")
			buf := make([]byte, 4096)
			n, err := r.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(string(buf[:n]), "\n"), "\n")
			if len(lines) != 4 {
				t.Fatalf("%q", lines)
			}
			for i, line := range lines {
				if journal != strings.HasPrefix(line, priorities[i]) || strings.HasPrefix(line, "<") != journal {
					t.Errorf("journal %v: %q", journal, line)
				}
				if line = strings.TrimPrefix(line, priorities[i]); format == "json" && !json.Valid([]byte(line)) {
					t.Errorf("not JSON: %q", line)
				}
			}
		}
	}
	if isJournal(&bytes.Buffer{}, "1:1") {
		t.Error("a buffer is a journal")
	}
}
