package replayrun_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
	"shunt/internal/config"
	"shunt/internal/replayrun"
)

var update = flag.Bool("update", false, "write testdata instead of comparing with it")

const captureDir = "../../testdata/captures"

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// golden compares what a test made with a file, or writes the file.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if !bytes.Equal(got, want) {
		if bytes.IndexByte(want, 0) >= 0 {
			t.Fatalf("%s is not what the test makes", path)
		}
		t.Errorf("%s\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func load(t testing.TB, path string) *config.Config {
	t.Helper()
	cfg, err := config.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// capture returns the path of one of the captures.
func capture(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(captureDir, name)
	golden(t, path, captures[name](t))
	return path
}

// TestGolden replays each capture and compares both reports, and all that was sent.
func TestGolden(t *testing.T) {
	for name := range captures {
		t.Run(name, func(t *testing.T) {
			in := capture(t, name)
			base := strings.TrimSuffix(name, filepath.Ext(name))
			cfg := load(t, filepath.Join("testdata", base+".yaml"))
			out := filepath.Join(t.TempDir(), "out.pcap")
			r, err := replayrun.Run(context.Background(), replayrun.Options{Config: cfg, Input: in, Output: out, Strict: true})
			if err != nil {
				t.Fatal(err)
			}
			sums(t, r)
			r.Capture.File, r.Sent.File = name, "out.pcap"
			r.Table.Memory = 64 << 10 // how much a flow takes is not of interest here
			var text, script bytes.Buffer
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			if err := r.WriteJSON(&script); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", base+".txt"), text.Bytes())
			golden(t, filepath.Join("testdata", base+".json"), script.Bytes())
			golden(t, filepath.Join("testdata", base+".sent"), sent(t, out, r))

			first, again := read(t, out), filepath.Join(t.TempDir(), "again.pcap")
			if _, err := replayrun.Run(context.Background(), replayrun.Options{Config: cfg, Input: in, Output: again, Strict: true}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, read(t, again)) {
				t.Error("two replays of the same capture give different bytes")
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sums checks that every packet is accounted for, and every frame that was sent.
func sums(t *testing.T, r *replayrun.Report) {
	t.Helper()
	all, forwarded := uint64(0), uint64(0)
	for _, v := range r.Verdicts {
		all += v.Count
		if v.Name == "forwarded" {
			forwarded = v.Count
		}
	}
	if all != r.Capture.Packets {
		t.Errorf("%d packets were read, and %d have a verdict", r.Capture.Packets, all)
	}
	if forwarded+r.Sent.Echoes+r.Sent.Answers != r.Sent.Frames {
		t.Errorf("%d frames were sent: %d forwarded, %d echo replies, %d answers", r.Sent.Frames, forwarded, r.Sent.Echoes, r.Sent.Answers)
	}
	for _, s := range r.Services {
		var flows, packets, size uint64
		for _, d := range s.Realservers {
			flows, packets, size = flows+d.Flows, packets+d.Packets, size+d.Bytes
		}
		if flows != s.Flows || packets != s.Packets || size != s.Bytes {
			t.Errorf("service %s has %d flows, and its realservers have %d", s.Name, s.Flows, flows)
		}
	}
}

// sent lists the frames of a capture for a person, by the names of the report.
func sent(t *testing.T, path string, r *replayrun.Report) []byte {
	t.Helper()
	src, err := replay.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var b bytes.Buffer
	batch := make([]frame.Frame, 64)
	for {
		n, _, err := src.Next(batch)
		if err != nil {
			break
		}
		for i := range batch[:n] {
			var p frame.Packet
			f := &batch[i]
			problem := frame.Parse(f, &p)
			to := f.Dst().String()
			if j := slices.IndexFunc(r.Realservers, func(s replayrun.Realserver) bool { return s.MAC == to }); j >= 0 {
				to = r.Realservers[j].Address.String()
			}
			at := time.Duration(f.Time - begin.UnixNano())
			fmt.Fprintf(&b, "%12.6f %s > %s %s, %d bytes", at.Seconds(), f.Src(), to, p.Tuple, f.Wire)
			if p.Proto == frame.TCP {
				fmt.Fprintf(&b, ", flags %02x", p.TCPFlags)
			}
			if p.VLANs > 0 {
				fmt.Fprintf(&b, ", tagged")
			}
			if problem != frame.OK {
				fmt.Fprintf(&b, ", %s", problem)
			}
			fmt.Fprintln(&b)
		}
	}
	return b.Bytes()
}
