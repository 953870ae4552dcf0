package wiretest

import (
	"testing"

	"shunt/internal/lab"
)

// The same over IPv6, beside IPv4: pages, an upload in frames longer than the MTU, and a realserver that moves.
func TestIPv6(t *testing.T) {
	for _, topology := range lab.Topologies {
		t.Run(topology, func(t *testing.T) {
			w := build(t, topology, 2)
			w.must(w.EnableIPv6())
			var reals []realserver
			for i := range w.Webs {
				reals = append(reals, realserver{address: lab.RIP6(i + 1), weight: 1})
			}
			w.start(w.config("arp: {refresh: 1s}", service{proto: "tcp", port: 80, scheduler: "rr", reals: reals, vip: lab.VIP6}, w.http("rr")))
			v4, v6 := w.url, "http://["+lab.VIP6+"]/"
			w.browser = w.browse(lab.ClientIP6)
			w.url = v6
			if got := w.pages(200, 8); got["web1"] != 100 || got["web2"] != 100 {
				t.Errorf("rr spread 200 connections as %v", got)
			}
			w.upload(64 << 20)
			const moved = "02:00:00:00:01:aa"
			w.must(w.Webs[0].SetMAC("eth0", moved))
			w.logged("the realserver has another MAC", lab.RIP6(1), moved)
			if got := w.pages(8, 1); got["web1"] != 4 || got["web2"] != 4 {
				t.Errorf("rr spread 8 connections as %v", got)
			}
			w.browser, w.url = w.browse(lab.ClientIP), v4
			w.pages(4, 1)
		})
	}
}
