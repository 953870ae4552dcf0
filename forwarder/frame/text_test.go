package frame_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"shunt/forwarder/frame"
)

func TestMACAsText(t *testing.T) {
	type host struct {
		MAC frame.MAC `json:"mac"`
	}
	in := host{frame.MAC{2, 0, 0, 0, 0, 0x1f}}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"mac":"02:00:00:00:00:1f"}` {
		t.Errorf("JSON %s, %v", b, err)
	}
	var out host
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Errorf("came back as %v, %v", out, err)
	}
	for _, bad := range []string{"", "02:00:00:00:00", "02:00:00:00:00:1g", "02:00:00:00:00:00:00:1f"} {
		m := in.MAC
		if err := m.UnmarshalText([]byte(bad)); err == nil || m != in.MAC {
			t.Errorf("%q was read as %s, error %v", bad, m, err)
		}
	}
}

func TestMACInLogs(t *testing.T) {
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"mac=02:00:00:00:00:1f":     func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		`"mac":"02:00:00:00:00:1f"`: func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("conflict", "mac", frame.MAC{2, 0, 0, 0, 0, 0x1f})
		if !strings.Contains(b.String(), name) {
			t.Errorf("%q is not in %q", name, b.String())
		}
	}
}
