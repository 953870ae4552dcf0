package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets this program be a process apart.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == apartFlag {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestSmall runs all of it in small, and looks for what it should have written.
func TestSmall(t *testing.T) {
	dir := t.TempDir()
	if err := run(dir, 1, 2000, true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"replay.md", "replay.json", "replay-flows.svg", "replay-flows.png", "replay-services.svg",
		"replay-realservers.svg", "replay-known.pprof", "replay-flood.pprof"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	md, err := os.ReadFile(filepath.Join(dir, "replay.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10 million", "SYN flood", "10000, established", "4096, established", "2 workers", "2 processes", "without engine", "Not to be compared"} {
		if !strings.Contains(string(md), want) {
			t.Errorf("the table does not tell of %q", want)
		}
	}
	if strings.Contains(string(md), "at most") {
		t.Error("a small run is held against the goals")
	}
}
