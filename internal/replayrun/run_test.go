package replayrun_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"shunt/internal/config"
	"shunt/internal/replayrun"
)

func run(t *testing.T, opt replayrun.Options) (*replayrun.Report, error) {
	t.Helper()
	if opt.Config == nil {
		opt.Config = load(t, "testdata/mixed.yaml")
	}
	if opt.Input == "" {
		opt.Input = filepath.Join(captureDir, "mixed.pcap")
	}
	return replayrun.Run(t.Context(), opt)
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("shunt.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// copyTo copies the mixed capture, or the first bytes of it, into a new file.
func copyTo(t *testing.T, bytes int) string {
	t.Helper()
	b := read(t, filepath.Join(captureDir, "mixed.pcap"))
	path := filepath.Join(t.TempDir(), "in.pcap")
	if err := os.WriteFile(path, b[:min(bytes, len(b))], 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there: %v", path, err)
	}
}

// The capture that is read survives, by whatever name the output is called.
func TestNeverOverInput(t *testing.T) {
	in := copyTo(t, 1<<20)
	before := read(t, in)
	dir := filepath.Dir(in)
	hard, soft := filepath.Join(dir, "hard.pcap"), filepath.Join(dir, "soft.pcap")
	if err := errors.Join(os.Link(in, hard), os.Symlink(in, soft)); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	for _, opt := range []replayrun.Options{
		{Input: in, Output: in}, {Input: in, Output: dir + "/./in.pcap"}, {Input: in, Output: hard}, {Input: in, Output: soft},
		{Input: hard, Output: soft}, {Input: "-", Stdin: stdin, Output: in},
	} {
		_, err := run(t, opt)
		if err == nil || !strings.Contains(err.Error(), "is the input capture") {
			t.Errorf("%s to %s: error %v", opt.Input, opt.Output, err)
		}
		if !bytes.Equal(read(t, in), before) {
			t.Fatalf("%s to %s: the capture is lost", opt.Input, opt.Output)
		}
	}
}

// Of a capture that is cut there is a report on what comes before, and its frames are in the
// output; and there is an error.
func TestDamaged(t *testing.T) {
	damaged := copyTo(t, 5000)
	out := filepath.Join(t.TempDir(), "out.pcap")
	r, err := run(t, replayrun.Options{Input: damaged, Output: out})
	if err == nil || !strings.HasPrefix(err.Error(), damaged+": packet ") || !strings.Contains(err.Error(), "in the middle of a record") {
		t.Fatalf("error %v over a damaged capture", err)
	}
	sums(t, r)
	if r.Capture.Packets < 30 || !strings.Contains(r.Capture.Damage, "in the middle of a record") {
		t.Errorf("%d packets, damage %q", r.Capture.Packets, r.Capture.Damage)
	}
	if s := text(t, r); !strings.Contains(s, "Damaged   the rest is unreadable: packet ") {
		t.Error(s)
	}
	if again, err := run(t, replayrun.Options{Input: out}); err != nil || again.Capture.Packets != r.Sent.Frames {
		t.Errorf("the output has %+v of %d frames: %v", again.Capture, r.Sent.Frames, err)
	}
}

// A replay that fails leaves no output that could be taken for whole.
func TestFailures(t *testing.T) {
	damaged := copyTo(t, 5000)
	out := filepath.Join(t.TempDir(), "out.pcap")

	if _, err := run(t, replayrun.Options{Output: "/dev/full"}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v on a full disk", err)
	}
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Fatalf("a device was removed: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	opt := replayrun.Options{Config: load(t, "testdata/mixed.yaml"), Input: filepath.Join(captureDir, "mixed.pcap"), Output: out}
	if _, err := replayrun.Run(ctx, opt); err == nil || !strings.Contains(err.Error(), "mixed.pcap: the replay was interrupted") {
		t.Errorf("error %v of an interrupted replay", err)
	}
	gone(t, out)

	for _, c := range []struct{ in, out, want string }{
		{filepath.Join(t.TempDir(), "none.pcap"), out, "none.pcap: no such file"},
		{t.TempDir(), out, "is a directory"},
		{"testdata/mixed.yaml", out, "neither a pcap nor a pcapng file"},
		{damaged, filepath.Join(t.TempDir(), "none", "out.pcap"), "name another file by -o"},
	} {
		if _, err := run(t, replayrun.Options{Input: c.in, Output: c.out}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: error %v, want %q", c.in, c.out, err, c.want)
		}
		gone(t, out)
	}
}

// Nobody writes to standard input: the replay ends all the same when it is to end, at its beginning
// or in its midst.
func TestInterruptedPipe(t *testing.T) {
	for _, n := range []int{0, 1000} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(read(t, copyTo(t, n))); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		out := filepath.Join(t.TempDir(), "out.pcap")
		_, err = replayrun.Run(ctx, replayrun.Options{Config: load(t, "testdata/mixed.yaml"), Input: "-", Stdin: r, Output: out})
		if err == nil || err.Error() != "standard input: the replay was interrupted" {
			t.Errorf("error %v", err)
		}
		gone(t, out)
		cancel()
		if err := errors.Join(w.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}
}

// Standard input may be a pipe, whose length nobody knows.
func TestPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	whole := read(t, filepath.Join(captureDir, "mixed.pcap"))
	go func() {
		defer w.Close()
		for len(whole) > 0 { // in pieces that end nowhere in particular
			n, err := w.Write(whole[:min(333, len(whole))])
			if err != nil {
				return
			}
			whole = whole[n:]
		}
	}()
	piped, err := run(t, replayrun.Options{Input: "-", Stdin: r, Speed: true})
	if err != nil {
		t.Fatal(err)
	}
	direct, err := run(t, replayrun.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if piped.Speed == nil || piped.Speed.Frames <= 0 {
		t.Error("no speed is reported")
	}
	if direct.Speed != nil {
		t.Error("a speed is reported that nobody asked for")
	}
	piped.Speed, piped.Capture.File = nil, direct.Capture.File
	a, b := text(t, piped), text(t, direct)
	if a != b {
		t.Errorf("from a pipe:\n%s\nfrom the file:\n%s", a, b)
	}
}

func text(t *testing.T, r *replayrun.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A capture without packets is no error: nothing happened.
func TestNoPackets(t *testing.T) {
	r, err := run(t, replayrun.Options{Input: copyTo(t, 24)})
	if err != nil {
		t.Fatal(err)
	}
	sums(t, r)
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b.Bytes(), []byte("null")) {
		t.Errorf("a list is null:\n%s", &b)
	}
	var again replayrun.Report
	if err := json.Unmarshal(b.Bytes(), &again); err != nil {
		t.Fatal(err)
	}
	if s := text(t, r); !strings.Contains(s, "0 packets, 0 bytes") || strings.Contains(s, "Time") {
		t.Error(s)
	}
}

// Where realservers live, if the file does not say it, and which MACs they and the legs have.
func TestPlaces(t *testing.T) {
	const services = "flows: 1024\nservices:\n  - {address: 203.0.113.10, port: 80, realservers: [{address: 10.0.0.11}, {address: 10.1.0.12}]}\n"
	for name, c := range map[string]struct{ legs, want string }{
		"one":                    {"legs: [{interface: a}]", "a a"},
		"public and private":     {"legs: [{interface: a}, {interface: b}]", "b b"},
		"private first":          {"legs: [{interface: a, public: false}, {interface: b, public: true}]", "a a"},
		"all public":             {"legs: [{interface: a, public: true}, {interface: b, public: true}]", "a a"},
		"one known":              {"legs: [{interface: a}, {interface: b, networks: [10.0.0.0/24]}]", "b a"},
		"two known, one private": {"legs: [{interface: a, networks: [10.1.0.0/16]}, {interface: b}]", "b a"},
	} {
		r, err := run(t, replayrun.Options{Config: parse(t, c.legs+"\n"+services)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := r.Realservers[0].Leg + " " + r.Realservers[1].Leg; got != c.want {
			t.Errorf("%s: the realservers are on %s, want %s", name, got, c.want)
		}
		if m := r.Realservers[0]; m.MAC != "02:00:0a:00:00:0b" || m.Origin != "derived" {
			t.Errorf("%s: %+v", name, m)
		}
	}
	_, err := run(t, replayrun.Options{Config: parse(t, "legs: [{interface: a, networks: [10.0.0.0/24]}]\n"+services)})
	if err == nil || !strings.Contains(err.Error(), "shunt.yaml:") || !strings.Contains(err.Error(), "10.1.0.12") {
		t.Errorf("error %v for a realserver that the file's networks leave out", err)
	}
}

// A report that cannot be written is an error.
func TestWriteError(t *testing.T) {
	r, err := run(t, replayrun.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.WriteText(broken{}) == nil || r.WriteJSON(broken{}) == nil {
		t.Error("an error of the writer is lost")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func ExampleReport_WriteText() {
	cfg, err := config.Load(context.Background(), "testdata/long.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := replayrun.Run(context.Background(), replayrun.Options{Config: cfg, Input: captureDir + "/long.pcap"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range r.Verdicts {
		fmt.Println(v.Count, v.Name)
	}
	// Output:
	// 19 forwarded
	// 1 no flow
}
