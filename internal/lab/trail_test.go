package lab

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"shunt/internal/netlab"
)

// recorded is a frame of a connection to the VIP from port 40000, as it passed a wire.
func recorded(t *testing.T, toHost bool, src, dst string, id uint16) netlab.Record {
	t.Helper()
	from, err1 := net.ParseMAC(src)
	to, err2 := net.ParseMAC(dst)
	ip := &layers.IPv4{Version: 4, TTL: 64, Id: id, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(ClientIP), DstIP: net.ParseIP(VIP)}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, ACK: true, Window: 100}
	err3 := tcp.SetNetworkLayerForChecksum(ip)
	b := gopacket.NewSerializeBuffer()
	err4 := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: from, DstMAC: to, EthernetType: layers.EthernetTypeIPv4}, ip, tcp)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return netlab.Record{ToHost: toHost, Length: len(b.Bytes()), Data: bytes.Clone(b.Bytes())}
}

// Frames that overtake each other are still the same frames; one that was changed, or went to
// another MAC, is found.
func TestFollow(t *testing.T) {
	n, page := &Network{Topology: "one-arm"}, Page{From: "web1", Port: 40000}
	whole := func() captured {
		c := captured{}
		for id := range uint16(4) {
			c["client"] = append(c["client"], recorded(t, false, clientMAC, DirectorMAC, id))
			c["director"] = append(c["director"], recorded(t, true, clientMAC, DirectorMAC, id), recorded(t, false, DirectorMAC, MAC(1), id))
			c["web1"] = append(c["web1"], recorded(t, true, DirectorMAC, MAC(1), id))
		}
		return c
	}
	for _, c := range []struct {
		name   string
		damage func(captured)
		wrong  string
	}{
		{"as sent", func(captured) {}, ""},
		{"overtaken", func(c captured) { slices.Reverse(c["web1"]); slices.Reverse(c["director"]) }, ""},
		{"overtaken by one", func(c captured) { c["web1"] = append(c["web1"][1:], c["web1"][0]) }, ""},
		{"changed", func(c captured) { slices.Reverse(c["web1"]); c["web1"][1].Data[48]++ }, `frame 3 changed at "switch   -> web1"`},
		{"to another", func(c captured) { c["web1"][1] = recorded(t, true, DirectorMAC, MAC(2), 1) }, "frame 2 went from"},
		{"lost", func(c captured) { c["web1"] = c["web1"][1:] }, "4 frames at"},
	} {
		records := whole()
		c.damage(records)
		got := n.follow(records, page, MAC(1))
		if c.wrong == "" && (len(got.wrong) > 0 || got.frames != 4 || got.ownMAC != 4) ||
			c.wrong != "" && (len(got.wrong) != 1 || !strings.Contains(got.wrong[0], c.wrong)) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
