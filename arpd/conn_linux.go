package arpd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// packetConn is a packet(7) socket as a Conn.
type packetConn struct {
	*packet.Conn
	everyone packet.Addr
}

// Dial opens the ARP frames of one interface, of one VLAN or, if vlan is 0, the untagged. It needs no IPv4 address on the
// interface.
func Dial(ifi *net.Interface, vlan uint16) (Conn, error) {
	prog, err := bpf.Assemble(vlanFilter(vlan))
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", ifi.Name, err)
	}
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, &packet.Config{Filter: prog})
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("ARP on %s: %w: the capability CAP_NET_RAW is missing", ifi.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", ifi.Name, err)
	}
	return &packetConn{c, packet.Addr{HardwareAddr: Broadcast[:]}}, nil
}

// vlanFilter lets in the frames of one VLAN: the kernel takes the tag out of the frame, but tells the filter
// (SKF_AD_VLAN_TAG_PRESENT, SKF_AD_VLAN_TAG in linux/filter.h).
func vlanFilter(vlan uint16) []bpf.Instruction {
	accept, reject := bpf.RetConstant{Val: 0xffff}, bpf.RetConstant{Val: 0}
	if vlan == 0 {
		return []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 1}, accept, reject}
	}
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(vlan), SkipTrue: 1},
		reject, accept,
	}
}

func (c *packetConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return n, err
}

func (c *packetConn) Write(b []byte) (int, error) { return c.WriteTo(b, &c.everyone) }
