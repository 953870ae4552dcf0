package arpd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// packetConn is a packet(7) socket as a Conn.
type packetConn struct {
	*packet.Conn
	everyone packet.Addr
	index    int

	mu      sync.Mutex
	groups  int    // a socket of IPv6 that is member of the groups, or -1
	dropped uint64 // as far as it was read
}

// Dial opens the ARP and NDP frames of one interface, of one VLAN (802.1Q) or, if vlan is 0, those that are of none. It needs no
// address on the interface.
func Dial(ifi *net.Interface, vlan uint16) (Conn, error) {
	return DialTagged(ifi, vlan, frame.EtherTypeVLAN)
}

// DialTagged is Dial for a VLAN whose tags are of the type tpid: 0x8100 for 802.1Q, 0x88a8 for 802.1ad.
func DialTagged(ifi *net.Interface, vlan, tpid uint16) (Conn, error) {
	prog, err := bpf.Assemble(filter(vlan, tpid))
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", ifi.Name, err)
	}
	// All protocols, as the taps of a single one lie behind the ingress hook, at which the director's own guard drops what
	// is for a VIP: unicast solicitations too.
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: prog})
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("ARP on %s: %w: the capability CAP_NET_RAW is missing", ifi.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", ifi.Name, err)
	}
	return &packetConn{Conn: c, everyone: packet.Addr{HardwareAddr: Broadcast[:]}, index: ifi.Index, groups: -1}, nil
}

// filter lets in ARP and neighbour solicitations and advertisements that are for this host or a group, of one VLAN: the
// kernel takes the tag out of the frame, but tells the filter (SKF_AD_VLAN_TAG_PRESENT, SKF_AD_VLAN_TAG, SKF_AD_VLAN_TPID in
// linux/filter.h). A tag of VLAN 0 has a priority, and is of no VLAN.
func filter(vlan, tpid uint16) []bpf.Instruction {
	accept, reject := bpf.RetConstant{Val: 0xffff}, bpf.RetConstant{Val: 0}
	p := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: unix.PACKET_MULTICAST, SkipTrue: 1}, // host, broadcast, multicast
		reject,
		bpf.LoadExtension{Num: bpf.ExtVLANTag}, // 0 if there is none
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(vlan), SkipTrue: 1},
		reject,
	}
	if vlan != 0 {
		p = append(p,
			bpf.LoadExtension{Num: bpf.ExtVLANProto},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(tpid), SkipTrue: 1}, reject,
		)
	}
	return append(p,
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.EtherTypeARP, SkipTrue: 6},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.EtherTypeIPv6, SkipFalse: 6},
		bpf.LoadAbsolute{Off: frame.HeaderLen + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpv6, SkipFalse: 4},
		bpf.LoadAbsolute{Off: frame.HeaderLen + ipv6Header, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 135, SkipTrue: 1}, // RFC 4861, 4.3 and 4.4
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 136, SkipFalse: 1},
		accept, reject,
	)
}

// Join has the solicitations for addr come here: the interface takes the frames of its group, and the kernel, where it has
// IPv6 on the interface, tells switches and routers by MLD.
func (c *packetConn) Join(addr netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return err
	}
	c.membership(unix.IPV6_JOIN_GROUP, group)
	mac := groupMAC(group)
	return c.JoinGroup(net.HardwareAddr(mac[:]))
}

// Leave undoes Join.
func (c *packetConn) Leave(addr netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return err
	}
	c.membership(unix.IPV6_LEAVE_GROUP, group)
	mac := groupMAC(group)
	return c.LeaveGroup(net.HardwareAddr(mac[:]))
}

// membership asks the kernel; it is enough if it does so where it can.
func (c *packetConn) membership(option int, group netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups < 0 {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return
		}
		c.groups = fd
	}
	_ = unix.SetsockoptIPv6Mreq(c.groups, unix.IPPROTO_IPV6, option, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(c.index)})
}

// Close closes the sockets.
func (c *packetConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups >= 0 {
		_ = unix.Close(c.groups)
		c.groups = -1
	}
	return c.Conn.Close()
}

// Dropped is the number of frames that the kernel dropped because nobody had read those before.
func (c *packetConn) Dropped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, err := c.Stats(); err == nil { // which sets the kernel's count to zero
		c.dropped += uint64(s.Drops)
	}
	return c.dropped
}

func (c *packetConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return n, err
}

func (c *packetConn) Write(b []byte) (int, error) { return c.WriteTo(b, &c.everyone) }
