package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// roundabout is a plain frame of IPv4 made into one of the same length that is not plain: four
// bytes of its payload become an option that means nothing.
func roundabout(f frame.Frame) frame.Frame {
	f = clone(f)
	h := f.Buf[14:]
	copy(h[24:], slices.Clone(h[20:len(h)-4]))
	copy(h[20:], []byte{1, 1, 1, 1})
	h[0], h[10], h[11] = 0x46, 0, 0
	if h[9] == byte(frame.UDP) {
		binary.BigEndian.PutUint16(h[28:], binary.BigEndian.Uint16(h[28:])-4)
	}
	binary.BigEndian.PutUint16(h[10:], checksum(h[:24], 0))
	return f
}

// ledger writes down what an engine has and has counted.
func (r *rig) ledger() (lines []string) {
	s := r.Stats()
	lines = append(engineList(r), fmt.Sprint(s.Table, s.Flows), fmt.Sprint(s.Verdicts))
	for _, svc := range r.Services() {
		lines = append(lines, fmt.Sprintf("%v %+v", svc.Key(), svc.Counts))
		for _, d := range svc.Destinations {
			lines = append(lines, fmt.Sprintf("%v %d %d %+v", d.Addr, d.Active, d.Inactive, d.Counts))
		}
	}
	return lines
}

// TestShortWays: what takes the short ways ends as what is kept from them, whatever the service is
// and however full the table.
func TestShortWays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sched := rapid.SampledFrom([]string{"rr", "wrr", "wlc", "sh"}).Draw(t, "scheduler")
		change := rapid.SampledFrom([]func(*forwarder.Service){
			func(*forwarder.Service) {}, func(*forwarder.Service) {},
			func(s *forwarder.Service) { s.Persistence = 30 * time.Second },
			func(s *forwarder.Service) { s.OnePacket = s.Matches[0].Proto == frame.UDP },
			func(s *forwarder.Service) { s.Name, s.Matches[0].Last = s.Matches[0].Proto.String(), 81 }, // a range is a group
			func(s *forwarder.Service) { s.Matches[0].First, s.Matches[0].Last = 0, 65535 },
		}).Draw(t, "service")
		upper := rapid.SampledFrom([]uint32{0, 0, 3}).Draw(t, "upper threshold")
		full, resolved := rapid.Bool().Draw(t, "full"), rapid.IntRange(0, 3).Draw(t, "resolved")
		settings := forwarder.DefaultSettings()
		settings.RefuseWhenFull = rapid.Bool().Draw(t, "refuse")
		settings.DropPacket = rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "drop_packet")
		settings.SecureTCP = rapid.SampledFrom([]int{0, 3}).Draw(t, "secure_tcp")
		settings.SloppyTCP = rapid.Bool().Draw(t, "sloppy_tcp")
		var rigs [2]*rig
		for i := range rigs {
			r := newRig(t)
			defer r.Close()
			rigs[i] = r
			for _, text := range []string{"TCP " + vip4 + ":80", "UDP " + vip4 + ":80"} {
				s := service(text, sched, change)
				r.update(func(tx *forwarder.Tx) error { return tx.AddService(s) })
				for n := range 3 {
					d := dest(s, n+1, func(d *forwarder.Destination) { d.Upper = int32(upper) })
					r.update(func(tx *forwarder.Tx) error { return tx.AddDestination(s.Key(), d) })
				}
			}
			for n := range resolved {
				r.must(r.SetNeighbour(0, server(n+1, false), serverMAC(n+1)))
			}
			r.update(func(tx *forwarder.Tx) error { return tx.SetSettings(settings) })
			if full {
				for n := range 1100 {
					r.give(flood(n))
				}
			}
		}
		for range rapid.IntRange(1, 20).Draw(t, "batches") {
			var batch, other []frame.Frame
			for range rapid.IntRange(1, 40).Draw(t, "frames") {
				client := netip.AddrFrom4([4]byte{100, 80, 0, rapid.Byte().Draw(t, "client")})
				talk := talk{netip.AddrPortFrom(client, rapid.SampledFrom([]uint16{20, 1024, 1025}).Draw(t, "client's port")),
					netip.AddrPortFrom(addr(vip4), rapid.SampledFrom([]uint16{80, 80, 80, 81, 82}).Draw(t, "port"))}
				f := talk.udp(make([]byte, 30)...)
				if rapid.IntRange(0, 2).Draw(t, "protocol") > 0 {
					f = talk.tcp(rapid.SampledFrom([]uint8{frame.SYN, frame.SYN, frame.SYN | frame.ACK, frame.SYN | frame.FIN, frame.SYN | frame.RST,
						frame.ACK, frame.FIN | frame.ACK, frame.RST, 0}).Draw(t, "flags"), 1, 2, 3, 4)
				}
				batch, other = append(batch, f), append(other, roundabout(f))
			}
			var to [2][]string
			for i, frames := range [][]frame.Frame{batch, other} {
				for _, o := range rigs[i].give(frames...) {
					if serverOf(o) != 0 { // what has options is not answered
						to[i] = append(to[i], fmt.Sprint(o.Dst(), o.Src(), o.In, o.Out))
					}
				}
			}
			if !slices.Equal(to[0], to[1]) {
				t.Fatalf("by the short ways frames go to\n%q, by the long one to\n%q", to[0], to[1])
			}
			if a, b := rigs[0].ledger(), rigs[1].ledger(); !slices.Equal(a, b) {
				t.Fatalf("after the short ways there are\n%q, after the long one\n%q", a, b)
			}
			if rapid.Bool().Draw(t, "time") {
				d := time.Duration(rapid.IntRange(0, 70).Draw(t, "seconds")) * time.Second
				rigs[0].after(d)
				rigs[1].after(d)
			}
		}
	})
}
