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
	answers  *packet.Conn // nil unless they are read apart
	everyone packet.Addr
	index    int

	mu      sync.Mutex
	groups  int    // a socket of IPv6 that is member of the groups, or -1
	dropped uint64 // as far as it was read
}

// Dial opens a Conn for the ARP and NDP frames of one VLAN (802.1Q) of an interface; VLAN 0 is
// untagged frames. The interface needs no address.
func Dial(ifi *net.Interface, vlan uint16) (Conn, error) {
	return DialTagged(ifi, vlan, frame.EtherTypeVLAN)
}

// DialTagged is Dial for VLAN tags of the type tpid: 0x8100 for 802.1Q, 0x88a8 for 802.1ad.
func DialTagged(ifi *net.Interface, vlan, tpid uint16) (Conn, error) {
	c, err := listen(ifi, filter(vlan, tpid, everything))
	if err != nil {
		return nil, err
	}
	return &packetConn{Conn: c, everyone: packet.Addr{HardwareAddr: Broadcast[:]}, index: ifi.Index, groups: -1}, nil
}

// DialSplit is DialTagged for a Conn that is a Splitter. It opens two sockets, so that the kernel
// has two queues.
func DialSplit(ifi *net.Interface, vlan, tpid uint16) (Conn, error) {
	c, err := listen(ifi, filter(vlan, tpid, butAnswers))
	if err != nil {
		return nil, err
	}
	answers, err := listen(ifi, filter(vlan, tpid, answersOnly))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &splitConn{packetConn{Conn: c, answers: answers, everyone: packet.Addr{HardwareAddr: Broadcast[:]}, index: ifi.Index, groups: -1}}, nil
}

// splitConn is a packetConn whose answers are read apart.
type splitConn struct{ packetConn }

// ReadAnswer reads the next answer to this host alone.
func (c *splitConn) ReadAnswer(b []byte) (int, error) { return readFrom(c.answers, b) }

func listen(ifi *net.Interface, program []bpf.Instruction) (*packet.Conn, error) {
	prog, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", ifi.Name, err)
	}
	// All protocols, as the taps of a single one lie behind the ingress hook, at which the
	// director's own guard drops what is for a VIP: unicast solicitations too.
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: prog})
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("ARP on %s: %w: the capability CAP_NET_RAW is missing", ifi.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", ifi.Name, err)
	}
	return c, nil
}

// What a filter lets in: an answer is an ARP reply or a neighbour advertisement that is for this
// host alone.
const (
	everything = iota
	butAnswers
	answersOnly
)

// filter lets in ARP and neighbour solicitations and advertisements that are for this host or a
// group, of one VLAN: the kernel takes the tag out of the frame, but tells the filter
// (SKF_AD_VLAN_TAG_PRESENT, SKF_AD_VLAN_TAG, SKF_AD_VLAN_TPID in linux/filter.h). A tag of VLAN 0
// has a priority, and is of no VLAN.
func filter(vlan, tpid uint16, which int) []bpf.Instruction {
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
	// What becomes of a question, of an answer to a group, and of one to this host alone.
	question, group, alone := accept, accept, accept
	switch which {
	case butAnswers:
		alone = reject
	case answersOnly:
		question, group = reject, reject
	}
	return append(p,
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.EtherTypeARP, SkipFalse: 3},
		bpf.LoadAbsolute{Off: frame.HeaderLen + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 2, SkipTrue: 8}, // a reply (RFC 826)
		question,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.EtherTypeIPv6, SkipFalse: 5},
		bpf.LoadAbsolute{Off: frame.HeaderLen + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpv6, SkipFalse: 3},
		bpf.LoadAbsolute{Off: frame.HeaderLen + ipv6Header, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 136, SkipTrue: 2}, // an advertisement (RFC 4861, 4.4)
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 135, SkipTrue: 4}, // a solicitation (4.3)
		reject,
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST, SkipFalse: 2},
		alone,
		question,
		group,
	)
}

// Join has the solicitations for addr come here: the interface takes the frames of its group, and
// the kernel, where it has IPv6 on the interface, tells switches and routers by MLD.
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
	err := c.Conn.Close()
	if c.answers != nil {
		err = errors.Join(err, c.answers.Close())
	}
	return err
}

// Dropped is the number of frames that the kernel dropped because nobody had read those before.
func (c *packetConn) Dropped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range []*packet.Conn{c.Conn, c.answers} {
		if conn == nil {
			continue
		}
		if s, err := conn.Stats(); err == nil { // which sets the kernel's count to zero
			c.dropped += uint64(s.Drops)
		}
	}
	return c.dropped
}

func (c *packetConn) Read(b []byte) (int, error) { return readFrom(c.Conn, b) }

func readFrom(c *packet.Conn, b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return n, err
}

func (c *packetConn) Write(b []byte) (int, error) { return c.WriteTo(b, &c.everyone) }
