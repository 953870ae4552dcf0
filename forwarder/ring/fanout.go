package ring

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// Multipliers of the shard's hash: odd numbers without a pattern, the golden ratio's (Knuth, TAOCP
// 3, 6.4) and one of MurmurHash3's.
const (
	mulA = 0x9e3779b1
	mulB = 0x85ebca6b
)

// extensionHeaders is how many IPv6 extension headers a packet that is no fragment has at most, by
// the order of RFC 8200, 4.1, without those of IPsec.
const extensionHeaders = 4

// fanoutKind selects the demultiplexer, and that frames sent by this host are not received.
const fanoutKind = unix.PACKET_FANOUT_CBPF | unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING

// Shard returns the worker, of n, that receives the flows of a client: 0 to n-1, in the order in
// which the engines were opened. The kernel computes the same for each frame (PACKET_FANOUT_CBPF),
// from the source address. So all fragments of a datagram and all flows of a persistent client
// reach one worker. An ICMP error is assigned by the destination of the packet that it quotes,
// because that packet was sent to the client. Fragments of ICMP errors are assigned by their
// source; so are ICMP errors behind an authentication header, or behind more IPv6 extension headers
// than there are kinds. For n less than 2 the result is 0.
func Shard(client frame.Addr, n int) int {
	if n < 2 {
		return 0
	}
	h := client.V4()
	if !client.Is4() {
		h = uint32(client.Hi >> 32)
		h = h*mulA + uint32(client.Hi)
		h = h*mulA + uint32(client.Lo>>32)
		h = h*mulA + uint32(client.Lo)
	}
	h *= mulA
	h ^= h >> 15
	h *= mulB
	return int(h >> 8 % uint32(n))
}

// shardProgram writes Shard as a program for the kernel, for n workers.
func shardProgram(n int) ([]bpf.RawInstruction, error) {
	return bpf.Assemble(shardInstructions(n, bpf.LoadExtension{Num: bpf.ExtProto}))
}

// shardInstructions writes Shard for n workers. proto loads the EtherType, as the program sees the
// frame from behind its Ethernet header on (packet_rcv_fanout in net/packet/af_packet.c). A frame
// that is too short ends the program with 0: the first worker counts it.
func shardInstructions(n int, proto bpf.Instruction) []bpf.Instruction {
	a := assembler{labels: map[string]int{}}
	a.put(
		bpf.LoadConstant{Dst: bpf.RegX}, // X: the length of the tags before the IP header
		proto,
	)
	// The kernel took out the outer tag; two more may be left.
	for i, after := range []string{"one", "two"} {
		a.jumpIf(frame.EtherTypeIPv4, "ipv4")
		a.jumpIf(frame.EtherTypeIPv6, "ipv6")
		a.jumpIf(frame.EtherTypeVLAN, after)
		a.jumpIf(frame.EtherTypeQinQ, after)
		a.put(bpf.RetConstant{})
		a.label(after)
		a.put(
			bpf.LoadConstant{Dst: bpf.RegX, Val: uint32(4 * (i + 1))},
			bpf.LoadAbsolute{Off: uint32(4*i + 2), Size: 2},
		)
	}
	a.jumpIf(frame.EtherTypeIPv4, "ipv4")
	a.jumpIf(frame.EtherTypeIPv6, "ipv6")
	a.put(bpf.RetConstant{})

	a.label("ipv4")
	a.put(bpf.LoadIndirect{Off: 9, Size: 1})
	a.jumpUnless(uint32(frame.ICMP), "source4")
	a.put(bpf.LoadIndirect{Off: 6, Size: 2}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x3fff})
	a.jumpUnless(0, "source4") // a fragment: all of them by their source
	a.put(
		bpf.StoreScratch{Src: bpf.RegX, N: 0},
		// X += the length of the IP header, which is not at a fixed place: MSH takes no X.
		bpf.LoadIndirect{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 15},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2},
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.TAX{},
		bpf.LoadIndirect{Off: 0, Size: 1},
	)
	for _, typ := range []uint32{3, 4, 5, 11, 12} { // RFC 792: those that hold the packet they are about
		a.jumpIf(typ, "error4")
	}
	a.put(bpf.LoadScratch{Dst: bpf.RegX, N: 0})
	a.label("source4")
	a.put(bpf.LoadIndirect{Off: 12, Size: 4})
	a.jump("mix")
	a.label("error4")
	a.put(bpf.LoadIndirect{Off: 8 + 16, Size: 4})
	a.jump("mix")

	a.label("ipv6")
	a.put(bpf.LoadIndirect{Off: 6, Size: 1})
	a.jumpIf(uint32(frame.TCP), "source6")
	a.jumpIf(uint32(frame.UDP), "source6")
	a.put(bpf.StoreScratch{Src: bpf.RegX, N: 0})
	// X moves such that what follows is 40 bytes behind it.
	for range extensionHeaders {
		next := fmt.Sprintf("behind %d", len(a.p))
		a.jumpIf(uint32(frame.ICMPv6), "icmp6")
		for _, header := range []uint32{0, 43, 60} { // RFC 8200, 4: of hop-by-hop options, routing, and destination options
			a.jumpIf(header, next)
		}
		a.jump("outer6")
		a.label(next)
		a.put(
			bpf.LoadIndirect{Off: 40, Size: 1},
			bpf.StoreScratch{Src: bpf.RegA, N: 1},
			bpf.LoadIndirect{Off: 41, Size: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3},
			bpf.ALUOpX{Op: bpf.ALUOpAdd},
			bpf.TAX{},
			bpf.LoadScratch{Dst: bpf.RegA, N: 1},
		)
	}
	a.jumpUnless(uint32(frame.ICMPv6), "outer6")
	a.label("icmp6")
	a.put(
		bpf.LoadIndirect{Off: 40, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 128, SkipTrue: 1}, // RFC 4443, 2.1: errors
	)
	a.jump("outer6")
	a.put( // the destination of the packet within, instead of the source of the one without
		bpf.TXA{},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 40 + 8 + 24 - 8},
		bpf.TAX{},
	)
	a.jump("source6")
	a.label("outer6")
	a.put(bpf.LoadScratch{Dst: bpf.RegX, N: 0})
	a.label("source6")
	a.put(bpf.StoreScratch{Src: bpf.RegX, N: 0}, bpf.LoadIndirect{Off: 8, Size: 4})
	for i := uint32(1); i < 4; i++ {
		a.put(
			bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: mulA},
			bpf.StoreScratch{Src: bpf.RegA, N: 1},
			bpf.LoadScratch{Dst: bpf.RegX, N: 0},
			bpf.LoadIndirect{Off: 8 + 4*i, Size: 4},
			bpf.LoadScratch{Dst: bpf.RegX, N: 1},
			bpf.ALUOpX{Op: bpf.ALUOpAdd},
		)
	}
	a.label("mix")
	a.put(
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: mulA},
		bpf.TAX{},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 15},
		bpf.ALUOpX{Op: bpf.ALUOpXor},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: mulB},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 8},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(max(n, 1))},
		bpf.RetA{},
	)
	return a.finish()
}

// An assembler resolves forward jumps to labels.
type assembler struct {
	p      []bpf.Instruction
	jumps  []pending
	labels map[string]int
}

type pending struct {
	at int
	to string
}

func (a *assembler) put(in ...bpf.Instruction) { a.p = append(a.p, in...) }
func (a *assembler) label(name string)         { a.labels[name] = len(a.p) }

func (a *assembler) jump(to string) {
	a.jumps = append(a.jumps, pending{len(a.p), to})
	a.put(bpf.Jump{})
}

// jumpIf jumps if A is v.
func (a *assembler) jumpIf(v uint32, to string) {
	a.put(bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipFalse: 1})
	a.jump(to)
}

// jumpUnless jumps if A is not v.
func (a *assembler) jumpUnless(v uint32, to string) {
	a.put(bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: 1})
	a.jump(to)
}

func (a *assembler) finish() []bpf.Instruction {
	for _, j := range a.jumps {
		a.p[j.at] = bpf.Jump{Skip: uint32(a.labels[j.to] - j.at - 1)}
	}
	return a.p
}
