// Package afpacket has the least that the wire benchmarks need of AF_PACKET: rings to send from and
// to receive into, in the plainest form. It shares no code with forwarder/ring, which it helps to
// measure.
package afpacket

import (
	"encoding/binary"
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

// Sizes of the rings: see the notes of forwarder/ring for what the kernel asks of them.
const (
	slotSize  = 2048
	txBlock   = 1 << 20
	txBlocks  = 4
	txSlots   = txBlock / slotSize * txBlocks
	txDataAt  = 32 // TPACKET2_HDRLEN less the struct sockaddr_ll
	rxBlock   = 1 << 18
	rxBlocks  = 64
	rxTimeout = 1 // ms, the shortest there is
)

// Open opens a packet socket on an interface that receives protocol (0: nothing). It skips the
// qdisc on sending, and does not see what others send.
func Open(name string, protocol uint16) (int, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return -1, fmt.Errorf("interface %s: %w", name, err)
	}
	fd, err := Unbound()
	if err != nil {
		return -1, err
	}
	return fd, Bind(fd, ifi.Index, protocol)
}

// Unbound opens a packet socket that receives nothing yet.
func Unbound() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	for _, opt := range []int{unix.PACKET_QDISC_BYPASS, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, opt, 1); err != nil {
			return -1, fmt.Errorf("packet socket: option %d: %w", opt, err)
		}
	}
	return fd, nil
}

// Bind has the socket receive protocol on the interface.
func Bind(fd, index int, protocol uint16) error {
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: protocol<<8 | protocol>>8}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// A Sender is a TX ring (TPACKET_V2).
type Sender struct {
	fd   int
	mem  []byte
	at   int
	wait int // slots filled since the kernel was told
}

// NewSender opens a TX ring on an interface.
func NewSender(name string) (*Sender, error) {
	fd, err := Open(name, 0)
	if err != nil {
		return nil, err
	}
	s := &Sender{fd: fd}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return nil, fmt.Errorf("TPACKET_V2: %w", err)
	}
	req := unix.TpacketReq{Block_size: txBlock, Block_nr: txBlocks, Frame_size: slotSize, Frame_nr: txSlots}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_TX_RING, &req); err != nil {
		return nil, fmt.Errorf("TX ring: %w", err)
	}
	if s.mem, err = unix.Mmap(fd, 0, txBlock*txBlocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("TX ring: %w", err)
	}
	return s, nil
}

// Slot returns the memory for the next frame, of any length up to 1514 bytes; Commit must follow.
// It waits for the kernel while the ring is full.
func (s *Sender) Slot() []byte {
	for load(s.mem, s.at) != unix.TP_STATUS_AVAILABLE {
		s.kick(0)
		runtime.Gosched()
	}
	return s.mem[s.at+txDataAt : s.at+slotSize]
}

// Commit hands the slot with n bytes to the kernel.
func (s *Sender) Commit(n int) {
	binary.NativeEndian.PutUint32(s.mem[s.at+4:], uint32(n))
	store(s.mem, s.at, unix.TP_STATUS_SEND_REQUEST)
	if s.at += slotSize; s.at == len(s.mem) {
		s.at = 0
	}
	s.wait++
}

// Flush has the kernel send what was committed.
func (s *Sender) Flush() {
	if s.wait > 0 {
		s.kick(unix.MSG_DONTWAIT)
		s.wait = 0
	}
}

// kick is send(fd, NULL, 0, flags).
func (s *Sender) kick(flags uintptr) {
	_, _, _ = unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, flags, 0, 0)
}

// Drain waits until the kernel has sent everything.
func (s *Sender) Drain() {
	s.Flush()
	for at := 0; at < len(s.mem); at += slotSize {
		for st := load(s.mem, at); st == unix.TP_STATUS_SEND_REQUEST || st == unix.TP_STATUS_SENDING; st = load(s.mem, at) {
			s.kick(0)
		}
	}
}

// Close gives the ring back.
func (s *Sender) Close() {
	_ = unix.Munmap(s.mem)
	_ = unix.Close(s.fd)
}
