package frame_test

import (
	"encoding/hex"
	"fmt"

	"shunt/forwarder/frame"
)

// frameOf reads a frame from a dump, as a source would from a capture.
func frameOf(dump string) frame.Frame {
	b, err := hex.DecodeString(dump)
	if err != nil {
		panic(err)
	}
	return frame.Frame{Buf: b, Wire: int32(len(b))}
}

// A SYN to a virtual service is read, and sent on to a realserver as direct routing does it: by the
// destination MAC.
func ExampleParse() {
	f := frameOf("020000000001" + "020000000002" + "0800" +
		"450000280001400040063cbdc0000207cb00710a" + // 192.0.2.7 to 203.0.113.10, TCP
		"9c400050" + "00000001" + "00000000" + "5002ffff" + "00000000") // from port 40000 to 80, SYN

	var p frame.Packet
	fmt.Println(frame.Parse(&f, &p))
	fmt.Println(p.Tuple)
	fmt.Println("IP at", p.L3, "TCP at", p.L4, "bytes", p.Len, "SYN", p.TCPFlags&frame.SYN != 0)

	f.SetDst(frame.MAC{2, 0, 0, 0, 0, 0x11})
	fmt.Println(f.Src(), ">", f.Dst())
	// Output:
	// ok
	// TCP 192.0.2.7:40000 > 203.0.113.10:80
	// IP at 14 TCP at 34 bytes 40 SYN true
	// 02:00:00:00:00:02 > 02:00:00:00:00:11
}

// A router on the way to the client says that a packet was too large. What it quotes went from the
// virtual service to the client, and is turned round.
func ExampleParseInner() {
	f := frameOf("020000000001" + "020000000002" + "0800" +
		"45000038000140004001d484c6336401cb00710a" + // 198.51.100.1 to 203.0.113.10, ICMP
		"0304" + "0000" + "000004b0" + // fragmentation needed, at most 1200 bytes
		"450005dc0002400040063708cb00710ac0000207" + // 203.0.113.10 to 192.0.2.7, TCP
		"00509c40" + "00000001") // from port 80 to 40000

	var p, inner frame.Packet
	fmt.Println(frame.Parse(&f, &p), p.Proto, p.ICMPType, p.ICMPCode)
	fmt.Println(frame.ParseInner(&f, &p, &inner))
	fmt.Println(inner.Tuple)
	// Output:
	// ok ICMP 3 4
	// ok
	// TCP 192.0.2.7:40000 > 203.0.113.10:80
}
