package forwarder_test

import (
	"testing"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Who forges a realserver's ARP with the MAC of the clients' router does not cut the clients off:
// what comes from a client's MAC is not taken for a loop. A MAC of which nothing came is.
func TestClientsMACIsNoLoop(t *testing.T) {
	for _, c := range []struct {
		vip  string
		v6   bool
		talk func(cport, vport uint16) talk
	}{{vip4, false, talk4}, {"[" + vip6 + "]", true, talk6}} {
		r := start(t)
		r.serve(service("TCP "+c.vip+":80", "rr"), 1)
		syn := c.talk(40000, 80).tcp(frame.SYN)
		r.expect(syn, forwarder.Forwarded)
		router := frame.MAC(syn.Buf[6:12])
		r.must(r.SetNeighbour(0, server(1, c.v6), router))
		r.expect(c.talk(40001, 80).tcp(frame.SYN), forwarder.Forwarded)
		if !r.FromClients(router) || r.FromClients(serverMAC(1)) {
			t.Errorf("from clients come frames of %s: %v, of the realserver's: %v", router, r.FromClients(router), r.FromClients(serverMAC(1)))
		}
		r.must(r.SetNeighbour(0, server(1, c.v6), serverMAC(7)))
		r.expect(changed(c.talk(40002, 80).tcp(frame.SYN), 6, 2, 0, 0, 0, 1, 7), forwarder.LoopGuard)
	}
}
