package replayrun_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/internal/config"
	"shunt/internal/replayrun"
)

func benchOptions(t *testing.T, cfg *config.Config, capture string) replayrun.BenchOptions {
	opt := replayrun.BenchOptions{Duration: time.Millisecond}
	opt.Config, opt.Input = cfg, filepath.Join(captureDir, capture)
	return opt
}

// TestBench: what becomes of the frames is what a replay says, however often the capture goes
// round.
func TestBench(t *testing.T) {
	cfg := load(t, "testdata/mixed.yaml")
	want, err := run(t, replayrun.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := replayrun.Bench(t.Context(), benchOptions(t, cfg, "mixed.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(r.Verdicts)
	if w, _ := json.Marshal(want.Verdicts); !bytes.Equal(got, w) {
		t.Errorf("verdicts %s, want %s", got, w)
	}
	if r.Rounds < 1 || r.PerFrame.Least <= 0 || r.PerFrame.Median < r.PerFrame.Least || r.PerFrame.Most < r.PerFrame.Median || r.Frames <= 0 {
		t.Errorf("%+v", r)
	}
	if r.Capture.Packets != want.Capture.Packets || r.Created != uint64(r.Flows) {
		t.Errorf("%d packets of %d; %d flows made, %d at the end: they should live on", r.Capture.Packets, want.Capture.Packets, r.Created, r.Flows)
	}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil || !strings.Contains(b.String(), " ns a frame (") || !strings.Contains(b.String(), "loop guard") {
		t.Error(err, b.String())
	}
}

// TestBenchRefuses what it cannot measure, and says what to do.
func TestBenchRefuses(t *testing.T) {
	cfg := load(t, "testdata/mixed.yaml")
	opt := benchOptions(t, cfg, "mixed.pcap")
	opt.Memory = 4096
	if _, err := replayrun.Bench(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "--memory") {
		t.Error(err)
	}
	opt = benchOptions(t, cfg, "mixed.pcap")
	b := read(t, opt.Input)
	opt.Input = filepath.Join(t.TempDir(), "none.pcap")
	if err := os.WriteFile(opt.Input, b[:24], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := replayrun.Bench(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "no packet") {
		t.Error(err)
	}
	opt.Input = copyTo(t, 2000)
	if _, err := replayrun.Bench(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "middle of a record") {
		t.Error(err)
	}
}
