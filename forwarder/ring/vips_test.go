package ring

import (
	"net/netip"
	"os"
	"testing"

	"golang.org/x/net/bpf"

	"shunt/forwarder/frame"
)

// Some sets of VIPs in turn, with frames flowing: what is in all of them is never lost.
func TestSetVIPsInTraffic(t *testing.T) {
	w := newLab(t, 1)[0]
	e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, vip4)
	var many []netip.Addr
	for i := range uint32(5000) {
		many = append(many, a4(0x0a000000+i*77))
	}
	sets := [][]netip.Addr{{vip4}, append([]netip.Addr{vip4}, many...), append([]netip.Addr{vip6, vip4}, many[:300]...), {vip6, vip4}}
	done := make(chan error, 1)
	go func() {
		for i := range 100 {
			if err := e.SetVIPs(sets[i%len(sets)]); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	data := w.frame(datagram(vip4, 10))
	for turning := true; turning; {
		for range 10 {
			w.send(nil, data)
		}
		next(t, e, 10)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			turning = false
		default:
		}
	}
	if err := e.SetVIPs(nil); err != nil {
		t.Fatal(err)
	}
	w.send(nil, data)
	if err := e.SetVIPs(sets[1]); err != nil {
		t.Fatal(err)
	}
	last := w.frame(datagram(many[4999], 20))
	w.send(nil, last)
	same(t, "the first frame after a time without VIPs", next(t, e, 1)[0].Data(), last)
	if err := e.SetFilter(nil); err == nil {
		t.Error("an empty filter was taken")
	}
	if err := e.SetFilter(make([]bpf.RawInstruction, maxProgram+1)); err == nil {
		t.Error("a filter that is too long was taken")
	}
}

// Where the kernel has no memory for a long filter, a shorter one must do: no VIP is left out.
func TestSetVIPsWithoutMemory(t *testing.T) {
	w := newLab(t, 1)[0]
	const limit = "/proc/sys/net/core/optmem_max"
	var many []netip.Addr
	for i := range uint32(1000) {
		many = append(many, a4(0x0a000000+i*77777))
	}
	for _, bytes := range []string{"20480", "8192", "3000"} {
		// Before Linux 6.8 the limit is one for all namespaces, and not to be changed from ours.
		if err := os.WriteFile(limit, []byte(bytes), 0); err != nil {
			t.Logf("the limit stays: %v", err)
		}
		e := open(t, Config{Legs: []LegConfig{w.leg(0)}}, append([]netip.Addr{vip6}, many...)...)
		w.send(nil, ether(w.mac, w.far, frame.EtherTypeARP, make([]byte, 46)))
		for i, a := range many {
			w.send(nil, w.frame(datagram(a, i%100)))
		}
		w.send(nil, w.frame(datagram(vip6, 50)))
		for i, f := range next(t, e, len(many)+1) {
			if i < len(many) {
				same(t, "frame", f.Data(), w.frame(datagram(many[i], i%100)))
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, _ = e.Next(nil)
	}
}
