package ring

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

var hostOrder = binary.NativeEndian

const (
	maxProgram = unix.BPF_MAXINSNS // instructions
	minProgram = 128               // below this all of IP is let in: the frame of the program alone has some 60
	takeAll    = 0xffffffff        // bytes of the frame to keep
)

// fprog makes of a program what setsockopt(2) wants. The program must not be empty.
func fprog(prog []bpf.RawInstruction) unix.SockFprog {
	f := make([]unix.SockFilter, len(prog))
	for i, in := range prog {
		f[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
}

func attachFilter(fd int, prog []bpf.RawInstruction) error {
	fp := fprog(prog)
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fp); err != nil {
		return fmt.Errorf("attach a filter of %d instructions: %w", len(prog), err)
	}
	return nil
}

// rejectAll is the filter that lets nothing in.
func rejectAll() []bpf.RawInstruction {
	return []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}}
}

// acceptIP is the filter that lets in all frames of IPv4 and IPv6 to the interface's MAC.
func acceptIP() []bpf.RawInstruction {
	raw, err := bpf.Assemble(filterProgram(all, all, onlyHost))
	if err != nil {
		return []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K, K: takeAll}}
	}
	return raw
}

// vipFilter writes the filter for a set of VIPs in at most size instructions. What does not fit is not left out: near
// addresses are joined to ranges, and the filter lets in the addresses between them too.
//
// An IPv6 address is looked up by the exclusive or of its four words, which keeps neighbours neighbours; what has the
// same one by chance comes in as well.
func vipFilter(vips []netip.Addr, size int) ([]bpf.RawInstruction, error) {
	var v4, v6 []uint32
	for _, a := range vips {
		switch a = a.Unmap(); {
		case a.Is4():
			v4 = append(v4, frame.AddrFrom(a).V4())
		case a.Is6():
			v6 = append(v6, fold(frame.AddrFrom(a)))
		}
	}
	r4, r6 := ranges(v4), ranges(v6)
	for {
		prog := filterProgram(r4, r6, onlyHost)
		if len(prog) <= size {
			return bpf.Assemble(prog)
		}
		if len(r4) <= 1 && len(r6) <= 1 {
			return nil, fmt.Errorf("%d instructions do not fit into %d", len(prog), size)
		}
		// Slightly fewer each time: the size of the tree is nearly proportional to the number of ranges.
		if len(r4) >= len(r6) {
			r4 = join(r4, len(r4)*7/8)
		} else {
			r6 = join(r6, len(r6)*7/8)
		}
	}
}

// fold is what an IPv6 address is looked up by.
func fold(a frame.Addr) uint32 {
	x := a.Hi ^ a.Lo
	return uint32(x>>32) ^ uint32(x)
}

// span is a range of numbers, both ends included.
type span struct{ lo, hi uint32 }

var all = []span{{0, 0xffffffff}}

// ranges sorts numbers, drops duplicates and joins neighbours.
func ranges(v []uint32) []span {
	slices.Sort(v)
	var r []span
	for _, n := range v {
		if k := len(r) - 1; k >= 0 && (n == r[k].hi || n == r[k].hi+1) {
			r[k].hi = n
		} else {
			r = append(r, span{n, n})
		}
	}
	return r
}

// join closes the smallest gaps between sorted ranges until at most n (1 or more) are left.
func join(r []span, n int) []span {
	n = max(n, 1)
	for len(r) > n {
		gaps := make([]uint32, 0, len(r)-1)
		for i := range r[1:] {
			gaps = append(gaps, r[i+1].lo-r[i].hi)
		}
		slices.Sort(gaps)
		limit := gaps[len(r)-n-1]
		left := len(r) - n
		var out []span
		for _, s := range r {
			if k := len(out) - 1; k >= 0 && left > 0 && s.lo-out[k].hi <= limit {
				out[k].hi = s.hi
				left--
			} else {
				out = append(out, s)
			}
		}
		r = out
	}
	return r
}

// onlyHost loads the kind of packet: filters let in what is for the interface's own MAC (PACKET_HOST, which is 0). The
// kernel's IPVS schedules no other either (ip_vs_in in net/netfilter/ipvs/ip_vs_core.c): what a switch floods, or what
// another director is to have, must not be forwarded twice.
var onlyHost bpf.Instruction = bpf.LoadExtension{Num: bpf.ExtType}

// filterProgram writes the filter for ranges of IPv4 addresses and of folded IPv6 addresses. kind loads the kind of
// packet. Frames may hold up to two VLAN tags beside the one that the kernel took out.
func filterProgram(r4, r6 []span, kind bpf.Instruction) []bpf.Instruction {
	tree4, tree6 := tree(r4), tree(r6)
	var p []bpf.Instruction
	p = append(p, kind, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST, SkipTrue: 1}, bpf.RetConstant{})
	// The type is looked for behind no, one and two tags. Each round jumps to what follows all of them:
	// the tree of IPv4, and after it the tree of IPv6, with X the length of the tags.
	const round, rounds = 7, 3
	ipv4 := len(p) + round*rounds
	load4 := []bpf.Instruction{bpf.LoadIndirect{Off: 30, Size: 4}}
	ipv6 := ipv4 + len(load4) + len(tree4)
	for i := range rounds {
		at := len(p)
		next := bpf.Instruction(bpf.RetConstant{})
		tag := uint8(1) // a tag goes on with the next round
		if i == rounds-1 {
			tag = 0
		}
		p = append(p,
			bpf.LoadConstant{Dst: bpf.RegX, Val: uint32(4 * i)},
			bpf.LoadAbsolute{Off: uint32(12 + 4*i), Size: 2},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: frame.EtherTypeIPv4, SkipTrue: 1},
			bpf.Jump{Skip: uint32(ipv4 - at - 4)},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: frame.EtherTypeIPv6, SkipTrue: 1},
			bpf.Jump{Skip: uint32(ipv6 - at - 6)},
		)
		_ = tag
		p = append(p, next)
	}
	p = append(p, load4...)
	p = append(p, tree4...)
	p = append(p, loadFold()...)
	return append(p, tree6...)
}
