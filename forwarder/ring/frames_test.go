package ring

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

var (
	macA = frame.MAC{2, 0, 0, 0, 0, 0xa}
	macB = frame.MAC{2, 0, 0, 0, 0, 0xb}
)

// tag is a VLAN tag of 802.1Q, dtag one of 802.1ad.
func tag(id uint16) [4]byte  { return [4]byte{0x81, 0x00, byte(id >> 8), byte(id)} }
func dtag(id uint16) [4]byte { return [4]byte{0x88, 0xa8, byte(id >> 8), byte(id)} }

// ether writes an Ethernet frame.
func ether(dst, src frame.MAC, typ uint16, payload []byte, tags ...[4]byte) []byte {
	b := append(dst[:], src[:]...)
	for _, t := range tags {
		b = append(b, t[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, typ)
	return append(b, payload...)
}

// etherIP writes an Ethernet frame for an IP packet, with the type that it calls for.
func etherIP(packet []byte, tags ...[4]byte) []byte {
	typ := uint16(frame.EtherTypeIPv4)
	if packet[0]>>4 == 6 {
		typ = frame.EtherTypeIPv6
	}
	return ether(macA, macB, typ, packet, tags...)
}

// sum adds up 16 bit words for an Internet checksum.
func sum(s uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return s
}

// ip writes an IP packet, v4 or v6 as its addresses are. For v4, options are 4-byte words of
// no-operation, and frag is the field of flags and fragment offset.
func ip(src, dst netip.Addr, proto frame.Proto, options int, frag uint16, payload []byte) []byte {
	if src.Is6() {
		b := []byte{0x60, 0, 0, 0, byte(len(payload) >> 8), byte(len(payload)), byte(proto), 64}
		b = append(b, src.AsSlice()...)
		b = append(b, dst.AsSlice()...)
		return append(b, payload...)
	}
	hl := 20 + 4*options
	b := make([]byte, hl, hl+len(payload))
	b[0] = byte(0x40 | hl/4)
	binary.BigEndian.PutUint16(b[2:], uint16(hl+len(payload)))
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = 64, byte(proto)
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	for i := 20; i < hl; i++ {
		b[i] = 1
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum(0, b)))
	return append(b, payload...)
}

// udp writes a UDP datagram without a checksum, which IPv4 allows and nothing here looks at.
func udp(src, dst uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// text is n bytes that differ from their neighbours.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// A reporter is a testing.TB or a rapid.T.
type reporter interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// extensions are what a program loads beside the frame.
type extensions map[bpf.Extension]uint32

// replaced puts constants in the place of extensions, which neither the VM nor a socket of AF_UNIX
// has.
func replaced(t reporter, raw []bpf.RawInstruction, ext extensions) []bpf.Instruction {
	t.Helper()
	prog, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program holds an instruction that is none")
	}
	for i, in := range prog {
		if x, ok := in.(bpf.LoadExtension); ok {
			v, ok := ext[x.Num]
			if !ok {
				t.Fatalf("the program loads the extension %v", x.Num)
			}
			prog[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: v}
		}
	}
	return prog
}

// A machine runs a program twice: in a VM and, through a pair of sockets, in the kernel.
type machine struct {
	vm  *bpf.VM
	fds [2]int
}

func newMachine(t reporter, raw []bpf.RawInstruction, ext extensions) *machine {
	t.Helper()
	prog := replaced(t, raw, ext)
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatalf("%d instructions: %v", len(prog), err)
	}
	m := &machine{vm: vm, fds: [2]int{-1, -1}}
	constant, err := bpf.Assemble(prog)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := attachFilter(fds[1], constant); err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		// Before Linux 6.7 the memory for the filters of a socket was less than a long program
		// takes.
		if len(raw) <= 1024 {
			t.Fatal(err)
		}
		return m
	}
	m.fds = fds
	return m
}

func (m *machine) close() {
	if m.fds[0] >= 0 {
		_ = unix.Close(m.fds[0])
		_ = unix.Close(m.fds[1])
	}
}

// run returns the result for a frame: how many bytes of it the program keeps, which is what a
// socket makes of it.
func (m *machine) run(data []byte) (int, error) {
	n, err := m.vm.Run(data)
	if err != nil {
		return 0, err
	}
	n = min(n, len(data))
	if m.fds[0] < 0 || len(data) == 0 {
		return n, nil
	}
	if _, err := unix.Write(m.fds[0], data); err != nil {
		return 0, err
	}
	var buf [256]byte
	k, err := unix.Read(m.fds[1], buf[:])
	if err == unix.EAGAIN {
		k, err = 0, nil // the program gave 0
	}
	if err != nil {
		return 0, err
	}
	if k != min(n, len(buf)) {
		return 0, fmt.Errorf("the VM keeps %d bytes of % x, the kernel %d", n, data, k)
	}
	return n, nil
}
