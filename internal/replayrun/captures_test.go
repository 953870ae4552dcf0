package replayrun_test

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// The captures of testdata/captures, each with a configuration of the same name in testdata. They
// are made here, so that a person can read what is in them.
var captures = map[string]func(t *testing.T) []byte{
	"mixed.pcap": mixed, "ipv6.pcapng": ipv6, "long.pcap": long,
	"changes.pcap": changes,
}

// begin is when all captures begin.
var begin = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// mixed has something for nearly every verdict.
func mixed(t *testing.T) []byte {
	const web, dns, off = "203.0.113.10:80", "203.0.113.10:53", "203.0.113.11:80"
	w := &wire{t: t, now: begin.UnixNano()}
	w.add(w.serialize(ethernet(layers.EthernetTypeARP), gopacket.Payload(make([]byte, 46))))
	for i := range 8 { // web: eight connections, to the end
		client := fmt.Sprintf("192.0.2.%d:40000", 1+i)
		for _, flags := range []string{"S", "A", "PA", "FA", "A"} {
			payload := 0
			if flags == "PA" {
				payload = 100 * i
			}
			w.add(w.tcp(client, web, flags, payload))
			// A realserver's answer, seen on the same wire.
			w.add(w.tcp(web, client, "A", 10))
		}
	}
	for i := range 5 { // dns: two clients
		w.add(w.udp(fmt.Sprintf("198.51.100.%d:5353", 1+i%2), dns, 40))
	}
	w.add(w.ping("192.0.2.1", "203.0.113.10"))
	w.add(w.tcp("192.0.2.1:41000", "203.0.113.10:81", "S", 0))    // no service: RST
	w.add(w.udp("192.0.2.1:41000", "203.0.113.10:54", 20))        // no service: unreachable
	w.add(w.tcp("192.0.2.1:41001", web, "A", 5))                  // no flow: RST
	w.add(w.tcp("192.0.2.1:41001", web, "R", 0))                  // no flow, and a RST is not answered
	w.add(w.tcp("192.0.2.1:41002", off, "S", 0))                  // no destination: unreachable
	w.add(w.tcp("203.0.113.11:80", web, "S", 0))                  // a VIP as source
	w.add(w.tcp("192.0.2.1:41003", "192.0.2.200:80", "S", 0))     // not a VIP
	w.add(tagged(w.tcp("192.0.2.99:40000", web, "S", 0), 0x6007)) // a tag stays
	w.add(from(w.tcp("192.0.2.1:41004", web, "S", 0), net.HardwareAddr{2, 0, 0, 0, 0, 0x11}))
	quoted := w.tcp(web, "192.0.2.99:40000", "A", 0)[14:]
	w.add(w.icmp("198.51.100.254", "203.0.113.10", 3, 4, quoted)) // about a flow
	quoted = w.tcp(web, "192.0.2.98:40000", "A", 0)[14:]
	w.add(w.icmp("198.51.100.254", "203.0.113.10", 3, 4, quoted)) // about none
	w.add(w.icmp("198.51.100.254", "203.0.113.10", 13, 0, make([]byte, 12)))
	eth, gre := ip(addr("192.0.2.1"), addr("203.0.113.10"), layers.IPProtocolGRE)
	w.add(w.serialize(eth, gre.(gopacket.SerializableLayer), gopacket.Payload(make([]byte, 20))))
	wrong := w.tcp("192.0.2.1:41005", web, "S", 0)
	wrong[24]++ // the checksum of the IP header
	w.add(wrong)
	short := w.tcp("192.0.2.1:41006", web, "S", 0)
	short[17] = 30 // total length: the TCP header does not fit
	headerSum(short)
	w.add(short)
	odd := w.tcp("192.0.2.1:41007", web, "S", 0)
	odd[14] = 0x44 // a header of 16 bytes
	w.add(odd)
	cut := w.add(w.tcp("192.0.2.2:40000", web, "PA", 400))
	cut.data = cut.data[:96]
	w.add(make([]byte, 10)) // a runt
	fragments(w, dns)

	return w.pcap()
}

// changes is traffic of several services, of which another configuration changes each in its own
// way.
func changes(t *testing.T) []byte {
	w := &wire{t: t, now: begin.UnixNano()}
	for i := range 24 {
		client := fmt.Sprintf("192.0.2.%d:%d", 1+i, 40000+i)
		for _, flags := range []string{"S", "A", "PA", "FA"} {
			w.add(w.tcp(client, "203.0.113.10:80", flags, 50*(len(flags)-1)))
		}
	}
	for port := range 2 {
		for i := range 6 {
			client := fmt.Sprintf("198.51.100.%d:%d", 1+i, 50000+port)
			w.add(w.tcp(client, "203.0.113.10:443", "S", 0))
			w.add(w.tcp(client, "203.0.113.10:443", "A", 0))
		}
	}
	for i := range 9 {
		w.add(w.udp(fmt.Sprintf("198.51.100.%d:5353", 1+i%3), "203.0.113.10:53", 40))
	}
	for i := range 3 {
		w.add(w.tcp(fmt.Sprintf("192.0.2.%d:41000", 1+i), "203.0.113.11:80", "S", 0))
		w.add(w.tcp(fmt.Sprintf("192.0.2.%d:41001", 1+i), "203.0.113.12:80", "S", 0))
	}
	return w.pcap()
}

// fragments adds a datagram in two parts, and a part of one whose beginning was not seen.
func fragments(w *wire, dst string) {
	whole := w.udp("198.51.100.9:5353", dst, 1000)
	part := func(id uint16, offset, from, to int, more bool) []byte {
		eth, header := ip(addr("198.51.100.9"), addr("203.0.113.10"), layers.IPProtocolUDP)
		h := header.(*layers.IPv4)
		h.Id, h.FragOffset = id, uint16(offset/8)
		if more {
			h.Flags = layers.IPv4MoreFragments
		}
		return w.serialize(eth, h, gopacket.Payload(whole[34+from:34+to]))
	}
	w.add(part(1, 0, 0, 504, true))
	w.add(part(1, 504, 504, 1008, false))
	w.add(part(2, 504, 504, 1008, false))
}

func writePcap(t *testing.T, out *pcapgo.Writer, w *wire) {
	t.Helper()
	for _, p := range w.packets {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(0, p.time), CaptureLength: len(p.data), Length: p.wire}
		if err := out.WritePacket(ci, p.data); err != nil {
			t.Fatal(err)
		}
	}
}

// ipv6 is a pcapng file of an Ethernet interface and another, whose clock steps back once.
func ipv6(t *testing.T) []byte {
	const web, dns = "[2001:db8::10]:443", "[2001:db8::10]:53"
	w := &wire{t: t, now: begin.UnixNano()}
	for i := range 3 {
		client := fmt.Sprintf("[2001:db8:c::%d]:40000", 1+i)
		for range 2 {
			w.add(w.tcp(client, web, "S", 0))
			w.add(w.tcp(client, web, "A", 0))
		}
		w.add(w.udp(client, dns, 30))
	}
	w.now -= 2e9
	w.add(w.ping("2001:db8:c::1", "2001:db8::10"))
	w.add(w.tcp("[2001:db8:c::1]:41000", "[2001:db8::10]:80", "S", 0))
	w.add(w.udp("[2001:db8:c::1]:41000", "[2001:db8::10]:80", 10))

	var b bytes.Buffer
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "shunt's tests"}}
	out, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{Name: "eth0", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}, options)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := out.AddInterface(pcapgo.NgInterface{Name: "tun0", LinkType: layers.LinkTypeRaw, TimestampResolution: 9})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range w.packets {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(0, p.time), CaptureLength: len(p.data), Length: p.wire}
		if err := out.WritePacket(ci, p.data); err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 {
			ci.InterfaceIndex, ci.CaptureLength, ci.Length = raw, 40, 40
			if err := out.WritePacket(ci, p.data[14:54]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// long lasts more than an hour: connections and templates end in its pauses, and others live on.
func long(t *testing.T) []byte {
	const web, dns = "203.0.113.20:80", "203.0.113.20:53"
	w := &wire{t: t, now: begin.UnixNano()}
	pause := func(d time.Duration) { w.now += d.Nanoseconds() }
	for i := range 4 {
		w.add(w.tcp(fmt.Sprintf("192.0.2.%d:40000", 1+i), web, "S", 0))
		w.add(w.tcp(fmt.Sprintf("192.0.2.%d:40000", 1+i), web, "A", 0))
		w.add(w.udp(fmt.Sprintf("192.0.2.%d:40000", 1+i), dns, 10))
	}
	w.add(w.tcp("192.0.2.1:40001", web, "S", 0))
	pause(299 * time.Second) // the last datagram's flow has a second left
	w.add(w.udp("192.0.2.4:40000", dns, 10))
	pause(2 * time.Second) // all other datagrams' flows are over
	w.add(w.udp("192.0.2.1:40000", dns, 10))
	pause(9 * time.Minute) // the established ones have not ended yet
	for i := range 2 {
		w.add(w.tcp(fmt.Sprintf("192.0.2.%d:40000", 1+i), web, "PA", 10))
	}
	pause(31 * time.Minute) // now all have
	w.add(w.tcp("192.0.2.1:40000", web, "PA", 10))
	w.add(w.tcp("192.0.2.1:40001", web, "S", 0))
	pause(33 * time.Minute)
	w.add(w.tcp("192.0.2.9:40000", web, "S", 0))

	var b bytes.Buffer
	out := pcapgo.NewWriter(&b) // in microseconds
	if err := out.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	writePcap(t, out, w)
	return b.Bytes()
}
