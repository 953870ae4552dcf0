package afpacket

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// A Receiver is a receive ring (TPACKET_V3), whose blocks the kernel fills one after the other.
type Receiver struct {
	fd   int
	mem  []byte
	at   int // the block to be read next
	poll [1]unix.PollFd
}

// Offsets in a block (struct tpacket_block_desc) and in a frame's header (struct tpacket3_hdr).
const (
	blockStatus = 8
	blockFrames = 12
	blockFirst  = 16

	frameNext = 0
	frameSnap = 12
	frameMac  = 24
)

// NewReceiver opens a ring of 16 MiB on an interface.
func NewReceiver(name string) (*Receiver, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	fd, err := Unbound()
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, fmt.Errorf("TPACKET_V3: %w", err)
	}
	req := unix.TpacketReq3{
		Block_size: rxBlock, Block_nr: rxBlocks, Frame_size: slotSize, Frame_nr: rxBlock / slotSize * rxBlocks, Retire_blk_tov: rxTimeout,
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("receive ring: %w", err)
	}
	r := &Receiver{fd: fd, poll: [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}
	if r.mem, err = unix.Mmap(fd, 0, rxBlock*rxBlocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("receive ring: %w", err)
	}
	return r, Bind(fd, ifi.Index, unix.ETH_P_ALL)
}

// Block waits for a block and calls each with its frames, which it may change; done then gives the
// block back.
func (r *Receiver) Block(each func([]byte) error, done func() error) error {
	base := r.at * rxBlock
	for load(r.mem, base+blockStatus)&unix.TP_STATUS_USER == 0 {
		if _, err := unix.Poll(r.poll[:], -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
	}
	n := int(load(r.mem, base+blockFrames))
	h := base + int(load(r.mem, base+blockFirst))
	for range n {
		hdr := r.mem[h : h+28]
		data := h + int(binary.NativeEndian.Uint16(hdr[frameMac:]))
		if err := each(r.mem[data : data+int(binary.NativeEndian.Uint32(hdr[frameSnap:]))]); err != nil {
			return err
		}
		h += int(binary.NativeEndian.Uint32(hdr[frameNext:]))
	}
	if err := done(); err != nil {
		return err
	}
	store(r.mem, base+blockStatus, unix.TP_STATUS_KERNEL)
	r.at = (r.at + 1) % rxBlocks
	return nil
}
