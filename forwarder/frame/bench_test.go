package frame_test

import (
	"testing"

	"shunt/forwarder/frame"
)

// BenchmarkParse reads frames of the kinds that traffic is made of.
func BenchmarkParse(b *testing.B) {
	for _, name := range []string{
		"IPv4 TCP", "IPv4 UDP", "IPv4 SCTP", "IPv4 in QinQ", "IPv4 options", "IPv4 middle fragment", "IPv4 echo request",
		"IPv6 TCP", "IPv6 UDP", "IPv6 hop-by-hop", "IPv6 all extension headers",
	} {
		for _, s := range samples(b) {
			if s.name != name {
				continue
			}
			b.Run(name, func(b *testing.B) {
				f := whole(s.data)
				var p frame.Packet
				b.ReportAllocs()
				for b.Loop() {
					if frame.Parse(&f, &p) != frame.OK {
						b.Fatal("the frame is refused")
					}
				}
			})
		}
	}
}

// BenchmarkParseInner reads what an ICMP error quotes.
func BenchmarkParseInner(b *testing.B) {
	for _, name := range []string{"IPv4 TCP", "IPv6 TCP", "IPv6 extension headers"} {
		for _, s := range innerSamples(b) {
			if s.name != name {
				continue
			}
			b.Run(name, func(b *testing.B) {
				f := whole(s.data)
				var p, in frame.Packet
				if frame.Parse(&f, &p) != frame.OK {
					b.Fatal("the frame is refused")
				}
				b.ReportAllocs()
				for b.Loop() {
					if frame.ParseInner(&f, &p, &in) != frame.OK {
						b.Fatal("the quotation is refused")
					}
				}
			})
		}
	}
}
