package ring

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// Sizes of programs.
const (
	maxProgram = unix.BPF_MAXINSNS - vlanProgram // instructions
	// vlanProgram is how many go before, at most: see ofVLAN.
	vlanProgram = 7
	minProgram  = 128        // below this all of IP is let in: the frame of the program alone has some 60
	takeAll     = 0xffffffff // bytes of the frame to keep
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

// vipFilter writes the filter for a set of VIPs in at most size instructions. What does not fit is
// not left out: near addresses are joined to ranges, and the filter lets in the addresses between
// them too.
//
// An IPv6 address is looked up by the exclusive or of its four words, which keeps neighbours
// neighbours; what has the same one by chance comes in as well.
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
	// A range takes two instructions and more, with its part of the tree.
	r4, r6 := join(ranges(v4), size/2), join(ranges(v6), size/2)
	bare := len(filterProgram(nil, nil, onlyHost)) - treeLen(nil) - treeLen(nil)
	for {
		if bare+treeLen(r4)+treeLen(r6) <= size {
			return bpf.Assemble(filterProgram(r4, r6, onlyHost))
		}
		if len(r4) <= 1 && len(r6) <= 1 {
			return nil, fmt.Errorf("%d instructions do not fit into %d", bare+treeLen(r4)+treeLen(r6), size)
		}
		// Slightly fewer each time: the size of the tree is nearly proportional to the number of
		// ranges.
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
		below, _ := slices.BinarySearch(gaps, limit)
		ties := len(r) - n - below // gaps of just that size to close; all smaller ones are closed
		var out []span
		for _, s := range r {
			k := len(out) - 1
			if k < 0 || s.lo-out[k].hi > limit || s.lo-out[k].hi == limit && ties == 0 {
				out = append(out, s)
				continue
			}
			if s.lo-out[k].hi == limit {
				ties--
			}
			out[k].hi = s.hi
		}
		r = out
	}
	return r
}

// onlyHost loads the kind of packet: filters let in what is for the interface's own MAC
// (PACKET_HOST, which is 0). The kernel's IPVS schedules no other either (ip_vs_in in
// net/netfilter/ipvs/ip_vs_core.c): what a switch floods, or what another director is to have, must
// not be forwarded twice.
var onlyHost bpf.Instruction = bpf.LoadExtension{Num: bpf.ExtType}

// filterProgram writes the filter for ranges of IPv4 addresses and of folded IPv6 addresses. kind
// loads the kind of packet. Frames may hold up to two VLAN tags beside the one that the kernel took
// out. What a load finds outside of the frame ends the program with 0.
func filterProgram(r4, r6 []span, kind bpf.Instruction) []bpf.Instruction {
	const tags = 2
	ipv4 := append([]bpf.Instruction{bpf.LoadIndirect{Off: frame.HeaderLen + 16, Size: 4}}, tree(r4)...)
	ipv6 := append(loadFold(), tree(r6)...)
	p := []bpf.Instruction{kind, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST, SkipTrue: 1}, bpf.RetConstant{}}
	// The type is looked for behind no, one and two tags; X is the length of the tags.
	const round, last = 9, 7
	start4 := len(p) + tags*round + last
	start6 := start4 + len(ipv4)
	for i := range tags + 1 {
		at := len(p)
		p = append(p,
			bpf.LoadConstant{Dst: bpf.RegX, Val: uint32(i * frame.VLANTagLen)},
			bpf.LoadAbsolute{Off: uint32(12 + i*frame.VLANTagLen), Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.EtherTypeIPv4, SkipFalse: 1},
			bpf.Jump{Skip: uint32(start4 - at - 4)},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.EtherTypeIPv6, SkipFalse: 1},
			bpf.Jump{Skip: uint32(start6 - at - 6)},
		)
		if i < tags {
			p = append(p,
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.EtherTypeVLAN, SkipTrue: 2},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.EtherTypeQinQ, SkipTrue: 1},
			)
		}
		p = append(p, bpf.RetConstant{})
	}
	return slices.Concat(p, ipv4, ipv6)
}

// loadFold loads the folded destination of an IPv6 header that starts X bytes behind its usual
// place.
func loadFold() []bpf.Instruction {
	const dst = frame.HeaderLen + 24
	p := []bpf.Instruction{bpf.StoreScratch{Src: bpf.RegX, N: 1}, bpf.LoadIndirect{Off: dst, Size: 4}}
	for i := uint32(1); i < 4; i++ {
		p = append(p,
			bpf.StoreScratch{Src: bpf.RegA, N: 0},
			bpf.LoadScratch{Dst: bpf.RegX, N: 1},
			bpf.LoadIndirect{Off: dst + 4*i, Size: 4},
			bpf.LoadScratch{Dst: bpf.RegX, N: 0},
			bpf.ALUOpX{Op: bpf.ALUOpXor},
		)
	}
	return p
}

// ofVLAN writes what goes before the filter of a leg that shares its interface: frames of other
// VLANs are not let in, those of its own go on. The kernel has taken the tag out of the frame, and
// tells of it.
func ofVLAN(lc *LegConfig) ([]bpf.RawInstruction, error) {
	if !lc.Shared {
		return nil, nil
	}
	p := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTag}, // 0 if there is none
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(lc.VLAN), SkipTrue: 1},
		bpf.RetConstant{},
	}
	if lc.VLAN != 0 {
		p = append(p,
			bpf.LoadExtension{Num: bpf.ExtVLANProto},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(lc.TPID), SkipTrue: 1},
			bpf.RetConstant{},
		)
	}
	return bpf.Assemble(p)
}

// leafSpans is how many ranges are compared one after the other at the end of the search.
const leafSpans = 4

// treeLen is how many instructions tree writes.
func treeLen(r []span) int {
	if len(r) > leafSpans {
		return 2 + treeLen(r[:len(r)/2]) + treeLen(r[len(r)/2:])
	}
	n := 2
	for _, s := range r {
		if n++; s.lo != s.hi {
			n++
		}
	}
	return n
}

// tree writes a binary search for the number in A among sorted ranges. It ends the program.
func tree(r []span) []bpf.Instruction {
	if len(r) > leafSpans {
		mid := len(r) / 2
		left, right := tree(r[:mid]), tree(r[mid:])
		head := []bpf.Instruction{
			// A conditional jump reaches 255 instructions only.
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: r[mid].lo, SkipFalse: 1},
			bpf.Jump{Skip: uint32(len(left))},
		}
		return slices.Concat(head, left, right)
	}
	var p []bpf.Instruction
	for i := len(r) - 1; i >= 0; i-- { // from the end, where the distance to the results is known
		reject := uint8(len(p))
		accept := reject + 1
		if s := r[i]; s.lo == s.hi {
			p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: s.lo, SkipTrue: accept})
		} else {
			p = append(p,
				bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: s.hi, SkipFalse: accept},
				bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: s.lo, SkipFalse: reject + 1})
		}
	}
	slices.Reverse(p)
	return append(p, bpf.RetConstant{}, bpf.RetConstant{Val: takeAll})
}

// SetVIPs accepts only IPv4 and IPv6 frames to these addresses whose destination MAC is the
// interface's own. The filter of each leg is replaced atomically: no frame to an address in both
// the old and the new set is lost. With several hundred addresses, the filter may also accept
// frames to other addresses.
func (e *Engine) SetVIPs(vips []netip.Addr) error {
	// The kernel bounds the memory of a socket's filters, old and new together
	// (net.core.optmem_max, 20 KiB before Linux 6.7): when it has none, a shorter program that lets
	// in more must do.
	for size := maxProgram; ; size /= 2 {
		prog, err := vipFilter(vips, size)
		if err == nil {
			err = e.SetFilter(prog)
		}
		if err == nil || size == maxProgram && !errors.Is(err, unix.ENOMEM) {
			return err
		}
		if size == maxProgram {
			if err := e.SetFilter(acceptIP()); err != nil {
				return err
			}
		} else if size <= minProgram {
			return nil // acceptIP stays
		}
	}
}

// SetFilter replaces the classic BPF program of all legs. The program sees the frame from its
// Ethernet header on, without the outer VLAN tag. A result other than 0 accepts the frame.
func (e *Engine) SetFilter(prog []bpf.RawInstruction) error {
	if len(prog) == 0 || len(prog) > maxProgram {
		return fmt.Errorf("ring: a filter of %d instructions: use 1 to %d", len(prog), maxProgram)
	}
	e.res.mu.Lock()
	defer e.res.mu.Unlock()
	if e.res.closed {
		return ErrClosed
	}
	for i, l := range e.legs {
		if l.rx < 0 {
			continue
		}
		vlan, err := ofVLAN(&e.cfg.Legs[i])
		if err == nil {
			err = attachFilter(l.rx, append(vlan, prog...))
		}
		if err != nil {
			return fmt.Errorf("ring: interface %s: %w", l.name, err)
		}
	}
	return nil
}
