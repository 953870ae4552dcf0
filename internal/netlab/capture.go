package netlab

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// A Record is one frame that passed a port of a switch.
type Record struct {
	Time   time.Time
	ToHost bool   // from the switch to the host; else from the host
	Data   []byte // from the Ethernet header on, at most snapLen bytes
	Length int    // on the wire
}

// snapLen bounds what is kept of a frame: the super-frames of offloads are long, and their ends
// tell nothing.
const snapLen = 2048

// A Capture records the frames of one interface, in both directions, in memory and optionally in a
// file.
type Capture struct {
	mu      sync.Mutex
	records []Record
	dropped uint64
	fd      int
	file    *os.File
	w       *pcapgo.Writer
	wg      sync.WaitGroup
	stop    chan struct{}
	once    sync.Once
}

// Capture starts to record the interface name. path is the .pcap file to write, or empty. The
// capture ends with Close, or with the host.
func (h *Host) Capture(name, path string) (*Capture, error) {
	link, err := h.nl.LinkByName(name)
	if err != nil {
		return nil, err
	}
	c := &Capture{stop: make(chan struct{})}
	if path != "" {
		if c.file, err = os.Create(path); err != nil {
			return nil, err
		}
		c.w = pcapgo.NewWriter(c.file)
		if err := c.w.WriteFileHeader(snapLen, layers.LinkTypeEthernet); err != nil {
			return nil, err
		}
	}
	err = h.Do(func() (err error) {
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture at %s of %s: %w", name, h.Name, err)
	}
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	// A read that ends now and then sees that it is to stop.
	timeout := unix.NsecToTimeval(int64(20 * time.Millisecond))
	err = errors.Join(unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(c.fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Protocol: unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8}))
	if err != nil {
		return nil, fmt.Errorf("capture at %s of %s: %w", name, h.Name, err)
	}
	c.wg.Go(c.read)
	h.onClose(func() { _ = c.Close() })
	return c, nil
}

func (c *Capture) read() {
	buf := make([]byte, 70<<10)
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, unix.MSG_TRUNC)
		if err != nil {
			select {
			case <-c.stop:
				return
			default:
			}
			if err != unix.EAGAIN && err != unix.EINTR && err != unix.ENETDOWN {
				return
			}
			continue
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		r := Record{Time: time.Now(), ToHost: ll.Pkttype == unix.PACKET_OUTGOING, Length: n, Data: append([]byte(nil), buf[:min(n, snapLen)]...)}
		c.mu.Lock()
		c.records = append(c.records, r)
		if c.w != nil {
			_ = c.w.WritePacket(gopacket.CaptureInfo{Timestamp: r.Time, CaptureLength: len(r.Data), Length: r.Length}, r.Data)
		}
		c.mu.Unlock()
	}
}

// Records returns the frames recorded so far.
func (c *Capture) Records() []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Record(nil), c.records...)
}

// Dropped returns the number of frames that could not be recorded fast enough. It is valid after
// Close.
func (c *Capture) Dropped() uint64 { c.mu.Lock(); defer c.mu.Unlock(); return c.dropped }

// Close stops the capture after recording the frames received so far. Further calls have no effect.
func (c *Capture) Close() error {
	var err error
	c.once.Do(func() {
		close(c.stop)
		c.wg.Wait()
		if s, e := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); e == nil {
			c.mu.Lock()
			c.dropped = uint64(s.Drops)
			c.mu.Unlock()
		}
		_ = unix.Close(c.fd)
		if c.file != nil {
			err = c.file.Close()
		}
	})
	return err
}
