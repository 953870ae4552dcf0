package wiretest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/procfs"
)

// The parser of node_exporter finds in proc_dir what the director has, as it would in the kernel's
// /proc.
func TestProcDir(t *testing.T) {
	eachFamily(t, 2, procDir, "one-arm")
}

func procDir(t *testing.T, w *world) {
	w.serveTalks()
	dir := filepath.Join(w.dir, "proc")
	w.start(w.config("proc_dir: "+dir, w.http("rr"), on("tcp", 7, []realserver{{address: w.family.rip(1), weight: 3}})))
	k := w.talk()
	w.pages(6, 2)
	proc, err := procfs.NewFS(dir)
	w.must(err)
	var stats procfs.IPVSStats
	w.eventually("the totals are in net/ip_vs_stats", func() bool {
		var err error
		stats, err = proc.IPVSStats()
		w.must(err)
		// They may have been written in the midst of the last page.
		return stats.Connections == 7 && stats.IncomingPackets >= 7*4
	})
	if stats.IncomingBytes < 7*160 || stats.OutgoingPackets+stats.OutgoingBytes != 0 {
		t.Errorf("net/ip_vs_stats has %+v", stats)
	}
	backends, err := proc.IPVSBackendStatus()
	w.must(err)
	if len(backends) != 3 {
		t.Fatalf("net/ip_vs has %+v", backends)
	}
	talks := 0
	for _, b := range backends {
		if b.Proto != "TCP" || b.LocalAddress.String() != w.family.vip || b.RemotePort != b.LocalPort {
			t.Errorf("a realserver is %+v", b)
		}
		switch b.LocalPort {
		case 80:
			if b.Weight != 1 || b.ActiveConn+b.InactConn == 0 {
				t.Errorf("a realserver of the pages is %+v", b)
			}
		case 7:
			talks++
			if b.Weight != 3 || b.ActiveConn != 1 || b.InactConn != 0 || b.RemoteAddress.String() != w.family.rip(1) {
				t.Errorf("the realserver of the talk is %+v", b)
			}
		}
	}
	if talks != 1 {
		t.Errorf("net/ip_vs has %+v", backends)
	}
	w.eventually("the connections are in net/ip_vs_conn", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "net/ip_vs_conn"))
		w.must(err)
		return strings.Count(string(text), "\nTCP ") == 7 && strings.Contains(string(text), "ESTABLISHED")
	})
	w.must(k.say("still"))
	for _, name := range []string{"proc", "proc/net", "proc/net/ip_vs"} { // others are to read it
		info, err := os.Stat(filepath.Join(w.dir, name))
		w.must(err)
		if info.Mode().Perm()&0o044 != 0o044 {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
	}
	w.stop()
	entries, err := os.ReadDir(filepath.Join(dir, "net"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if len(entries) != 0 {
		t.Errorf("after the end there are %v", entries)
	}
}
