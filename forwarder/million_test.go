package forwarder_test

import (
	"net/netip"
	"testing"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// A million persistent clients, each with a connection and a template, must fit into 64 bytes an
// entry, and each must come back to its realserver.
func TestMillionPersistentClients(t *testing.T) {
	const clients = 1_000_000
	r := start(t, func(c *forwarder.Config) { c.Flows = 2 * clients; c.Exact = false })
	r.serve(service("TCP "+vip4+":80", "wlc", func(s *forwarder.Service) { s.Persistence = time.Hour }), 1, 2, 3)
	one := talk4(40000, 80).tcp(frame.SYN)
	batch := make([]frame.Frame, forwarder.BatchSize)
	for i := range batch {
		batch[i] = clone(one)
	}
	clean := clone(one)
	where := make([]byte, clients)
	round := func(port byte, check func(client int, mac frame.MAC)) {
		for from := 0; from < clients; from += len(batch) {
			n := min(len(batch), clients-from)
			for i := range n {
				b := batch[i].Data()
				copy(b, clean.Data())
				id := from + i
				// The source address and port are new: the checksum of the header is corrected by
				// what was added (RFC 1624).
				a := netip.AddrFrom4([4]byte{11, byte(id >> 16), byte(id >> 8), byte(id)}).As4()
				copy(b[26:30], a[:])
				b[24], b[25] = 0, 0
				sum := uint32(0)
				for j := 14; j < 34; j += 2 {
					sum += uint32(b[j])<<8 | uint32(b[j+1])
				}
				sum = sum>>16 + sum&0xffff
				sum = ^(sum>>16 + sum&0xffff)
				b[24], b[25] = byte(sum>>8), byte(sum)
				b[35] = port
			}
			out := r.Worker(0).Process(batch[:n], r.now)
			if len(out) != n {
				t.Fatalf("of %d frames %d went out: %v", n, len(out), r.Stats().Verdicts)
			}
			for i := range out {
				check(from+i, out[i].Dst())
			}
		}
	}
	round(1, func(client int, mac frame.MAC) { where[client] = mac[5] })
	s := r.Stats()
	if s.Flows != 2*clients {
		t.Fatalf("%d entries, want a flow and a template for each of %d clients", s.Flows, clients)
	}
	if per := float64(s.Memory) / float64(s.Flows); per > 64 {
		t.Errorf("%.1f bytes an entry, want at most 64", per)
	} else {
		t.Logf("%.1f bytes an entry", per)
	}
	// Their connections end; the templates bring them back.
	r.after(2 * time.Minute)
	round(2, func(client int, mac frame.MAC) {
		if where[client] != mac[5] {
			t.Fatalf("client %d went to %d, and was with %d", client, mac[5], where[client])
		}
	})
}
