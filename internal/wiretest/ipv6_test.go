package wiretest

import (
	"bytes"
	"os"
	"testing"

	"shunt/internal/lab"
)

// Services of both families beside each other, with the same realservers. Every other test here is
// of one family at a time.
func TestBothFamilies(t *testing.T) {
	for _, topology := range lab.Topologies {
		t.Run(topology, func(t *testing.T) {
			w := buildFor(t, ipv6Family, topology, 2)
			v6 := w.http("rr")
			w.family = ipv4Family
			w.start(w.config("", service{proto: "tcp", port: 80, scheduler: "rr", reals: v6.reals, vip: lab.VIP6}, w.http("rr")))
			for _, f := range families {
				w.speak(f)
				if got := w.pages(100, 8); got["web1"] != 50 || got["web2"] != 50 {
					t.Errorf("%s: rr spread 100 connections as %v", f.name, got)
				}
			}
			// Questions for the VIP are sent to its group: the interface takes them, even where a
			// switch or a network card hands out only what was asked for.
			w.must(w.Director.Do(func() error {
				for path, want := range map[string]string{"dev_mcast": "3333ff000100", "igmp6": "ff0200000000000000000001ff000100"} {
					list, err := os.ReadFile("/proc/thread-self/net/" + path)
					if err == nil && !bytes.Contains(list, []byte(want)) {
						t.Errorf("the interface is not in the group of the VIP's solicitations: %s has\n%s", path, list)
					}
					if err != nil {
						return err
					}
				}
				return nil
			}))
		})
	}
}
