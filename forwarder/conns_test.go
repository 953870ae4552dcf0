package forwarder_test

import (
	"errors"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// loads are active and inactive connections and templates of a service's realservers, by their
// number.
func (r *rig) loads(vip string) map[int][3]int32 {
	out := map[int][3]int32{}
	for _, s := range r.Services() {
		if s.Key().String() != vip {
			continue
		}
		for _, d := range s.Destinations {
			out[int(d.Addr.AsSlice()[3])] = [3]int32{d.Active, d.Inactive, d.Persistent}
		}
	}
	return out
}

// Connections that are ended are counted out, and unknown from then on; those of others stay.
func TestEndConnections(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr", func(s *forwarder.Service) { s.Persistence = time.Minute }), 1, 2)
	a, b := from("192.0.2.7:40000", vip4+":80"), from("192.0.2.8:40000", vip4+":80")
	for _, k := range []talk{a, b} {
		r.give(k.tcp(frame.SYN), k.tcp(frame.ACK))
	}
	only := func(client string) func(forwarder.ConnectionInfo) bool {
		return func(c forwarder.ConnectionInfo) bool { return c.Client.Addr().String() == client }
	}
	if n := r.EndConnections(only("192.0.2.99")); n != 0 {
		t.Errorf("%d connections of nobody ended", n)
	}
	if n := r.EndConnections(only("192.0.2.7")); n != 2 {
		t.Errorf("%d entries ended, want a connection and its template", n)
	}
	for _, c := range r.conns() {
		if c.Client.Addr().String() == "192.0.2.7" {
			t.Errorf("%+v is still there", c)
		}
	}
	total := [3]int32{}
	for _, l := range r.loads("TCP " + vip4 + ":80") {
		for i := range l {
			total[i] += l[i]
		}
	}
	if total != [3]int32{1, 0, 1} {
		t.Errorf("active, inactive and templates are %v in all, want those of one client", total)
	}
	if out := r.give(b.tcp(frame.ACK)); len(out) != 1 {
		t.Error("the other connection does not go on")
	}
	if n := r.EndConnections(func(c forwarder.ConnectionInfo) bool { return c.Template }); n != 0 {
		t.Errorf("%d templates ended on which connections depend", n)
	}
}

// Connections that are moved go to the other realserver with their next packet, and are counted
// there.
func TestMoveConnections(t *testing.T) {
	r := start(t)
	r.serve(service("TCP "+vip4+":80", "rr"), 1, 2)
	r.serve(service("UDP "+vip4+":53", "rr"), 1)
	var talks []talk
	for port := range uint16(8) {
		k := talk4(40000+port, 80)
		r.give(k.tcp(frame.SYN), k.tcp(frame.ACK))
		talks = append(talks, k)
	}
	r.give(talk4(50000, 53).udp())
	all := func(forwarder.ConnectionInfo) bool { return true }
	if _, err := r.MoveConnections(all, server(9, false)); !errors.Is(err, forwarder.ErrNoDest) {
		t.Errorf("moved to nobody: %v", err)
	}
	n, err := r.MoveConnections(all, server(2, false))
	if n != 4 || err != nil {
		t.Errorf("%d moved, %v; want the 4 that were elsewhere", n, err)
	}
	if l := r.loads("TCP " + vip4 + ":80"); l[1] != [3]int32{} || l[2] != [3]int32{8} {
		t.Errorf("loads %v", l)
	}
	if l := r.loads("UDP " + vip4 + ":53"); l[1] != [3]int32{0, 1} {
		t.Errorf("the other service: %v", l)
	}
	for _, k := range talks {
		if out := r.give(k.tcp(frame.ACK)); len(out) != 1 || serverOf(out[0]) != 2 {
			t.Fatal("a moved connection goes elsewhere")
		}
		r.give(k.tcp(frame.RST))
	}
	r.EndConnections(all)
	for vip := range map[string]bool{"TCP " + vip4 + ":80": true, "UDP " + vip4 + ":53": true} {
		for n, l := range r.loads(vip) {
			if l != [3]int32{} {
				t.Errorf("after all: realserver %d of %s has %v", n, vip, l)
			}
		}
	}
}
