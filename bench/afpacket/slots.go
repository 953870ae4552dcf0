package afpacket

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// VnetLen is the length of the virtio_net_hdr before each frame.
const VnetLen = 10

// The slots of Slots hold a super-frame each.
const (
	bigSlot  = 1 << 17
	bigSlots = 256
	maxHeld  = 32
)

// Slots is a receive ring (TPACKET_V2) for super-frames, whose slots are taken and given back in
// order.
type Slots struct {
	mem  []byte
	at   int // the slot to be taken next
	held int
	poll [1]unix.PollFd
}

// OpenVnet opens a socket that sends frames with a virtio_net_hdr on an interface.
func OpenVnet(name string) (int, error) {
	fd, err := Open(name, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return -1, fmt.Errorf("PACKET_VNET_HDR: %w", err)
	}
	// The usual bound is that of a few super-frames.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20)
	return fd, nil
}

// NewSlots opens a ring of 32 MiB on an interface.
func NewSlots(name string) (*Slots, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	fd, err := Unbound()
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return nil, fmt.Errorf("TPACKET_V2: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return nil, fmt.Errorf("PACKET_VNET_HDR: %w", err)
	}
	req := unix.TpacketReq{Block_size: bigSlot, Block_nr: bigSlots, Frame_size: bigSlot, Frame_nr: bigSlots}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("receive ring: %w", err)
	}
	s := &Slots{poll: [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}
	if s.mem, err = unix.Mmap(fd, 0, bigSlot*bigSlots, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("receive ring: %w", err)
	}
	return s, Bind(fd, ifi.Index, unix.ETH_P_ALL)
}

// Wait waits for a frame.
func (s *Slots) Wait() error {
	for load(s.mem, s.at*bigSlot)&unix.TP_STATUS_USER == 0 {
		if _, err := unix.Poll(s.poll[:], -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
	}
	return nil
}

// Take returns the next frame with its virtio_net_hdr, or nil: there is none, or enough are held.
func (s *Slots) Take() []byte {
	base := s.at * bigSlot
	if s.held == maxHeld || load(s.mem, base)&unix.TP_STATUS_USER == 0 {
		return nil
	}
	s.at = (s.at + 1) % bigSlots
	s.held++
	// struct tpacket2_hdr: the length at hand, and where the frame begins.
	n, mac := int(binary.NativeEndian.Uint32(s.mem[base+8:])), base+int(binary.NativeEndian.Uint16(s.mem[base+12:]))
	return s.mem[mac-VnetLen : mac+n]
}

// GiveBack returns all slots that were taken.
func (s *Slots) GiveBack() {
	for ; s.held > 0; s.held-- {
		store(s.mem, (s.at-s.held+bigSlots)%bigSlots*bigSlot, unix.TP_STATUS_KERNEL)
	}
}
