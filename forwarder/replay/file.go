package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/google/gopacket/layers"
)

const (
	// maxFrame is the longest frame that is read; a record that claims more is damaged. tcpdump and
	// Wireshark draw the line at the same length.
	maxFrame = 262144

	// buffer holds a whole packet of a file, with its options in pcapng.
	buffer = 2 * maxFrame
)

// The first bytes of what can be read.
var (
	magicGzip    = []byte{0x1f, 0x8b}
	magicSection = []byte{0x0a, 0x0d, 0x0d, 0x0a} // pcapng: a section header, in either byte order
)

// magicPcap has the magic numbers of pcap, and of how many nanoseconds the units of time are.
var magicPcap = map[uint32]int64{0xa1b2c3d4: 1000, 0xa1b23c4d: 1}

// errCut is a file that ends where it should not.
var errCut = errors.New("the file ends in the middle of a record")

// A DamageError reports a capture that cannot be read to its end. All packets before the damage
// have been lent.
type DamageError struct {
	File   string
	Packet uint64 // the packet where the damage is, counted from 1 as Wireshark does
	Err    error
}

// Error describes the problem, its place and the remedy.
func (e *DamageError) Error() string {
	if e.Packet <= 1 {
		return fmt.Sprintf("%s: packet 1 cannot be read: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s: packet %d cannot be read: %v; `editcap -r FILE whole.pcap 1-%d` keeps what comes before",
		e.File, e.Packet, e.Err, e.Packet-1)
}

// Unwrap returns the reason.
func (e *DamageError) Unwrap() error { return e.Err }

// Open opens the capture at path. Close closes it.
func Open(path string) (*Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := NewFile(path, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.closer = f
	return s, nil
}

// NewFile reads a capture from an open file, such as standard input. The caller keeps the file.
// name identifies it in errors.
func NewFile(name string, f *os.File) (*Source, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory: name a capture in it", name)
	}
	size := int64(0)
	if info.Mode().IsRegular() {
		size = info.Size()
	}
	return New(name, f, size)
}

// New reads a capture from r. name identifies it in errors. size is its length in bytes for
// Progress, 0 if unknown.
func New(name string, r io.Reader, size int64) (*Source, error) {
	s := &Source{name: name, size: size}
	s.raw.r = r
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// open looks at the first bytes and chooses how to read the rest.
func (s *Source) open() error {
	in := bufio.NewReaderSize(&s.raw, buffer)
	head, err := in.Peek(len(magicGzip))
	if err == nil && bytes.Equal(head, magicGzip) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("it starts like a gzip file, but: %w", cut(err))
		}
		s.stats.Compressed = true
		in = bufio.NewReaderSize(z, buffer)
	}
	head, err = in.Peek(4)
	switch {
	case len(head) == 0 && err == io.EOF:
		return errors.New("the file is empty; a capture has at least a header")
	case err != nil:
		return cut(err)
	case bytes.Equal(head, magicSection):
		return s.openSections(in)
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if unit, ok := magicPcap[order.Uint32(head)]; ok {
			return s.openPcap(in, order, unit)
		}
	}
	return fmt.Errorf("it is neither a pcap nor a pcapng file: it starts with % x; `editcap -F pcap` converts what Wireshark can read", head)
}

// openPcap reads the header of a pcap file, which has one link type.
func (s *Source) openPcap(in *bufio.Reader, order binary.ByteOrder, unit int64) error {
	head, err := in.Peek(24)
	if err != nil {
		return cut(err)
	}
	if major, minor := order.Uint16(head[4:]), order.Uint16(head[6:]); major != 2 || minor != 4 {
		return fmt.Errorf("pcap version %d.%d; 2.4 is known", major, minor)
	}
	// The upper half says how long the frame check sequence is (draft-ietf-opsawg-pcap, 4).
	if link := uint16(order.Uint32(head[20:])); link != uint16(layers.LinkTypeEthernet) {
		return notEthernet([]uint16{link})
	}
	s.stats.Format = "pcap"
	s.read = (&records{r: in, order: order, unit: unit, size: 24}).read
	return nil
}

// records reads the packets of a pcap file.
type records struct {
	r     *bufio.Reader // of which a record is a window
	order binary.ByteOrder
	unit  int64 // of time, in nanoseconds
	size  int   // of the record at hand
}

// read finds the next packet. io.EOF is the end of the file between two records, and no other
// place. Packets that are longer than the header's snapshot length are common, and so are those
// whose length on the wire is less than what there is of them.
func (c *records) read() (packet, error) {
	if _, err := c.r.Discard(c.size); err != nil {
		return packet{}, cut(err)
	}
	c.size = 0
	head, err := c.r.Peek(16)
	if len(head) == 0 {
		return packet{}, err
	}
	if err != nil {
		return packet{}, cut(err)
	}
	n := c.order.Uint32(head[8:])
	if n > maxFrame {
		return packet{}, fmt.Errorf("it has %d bytes; the longest frame has %d", n, maxFrame)
	}
	record, err := c.r.Peek(16 + int(n))
	if err != nil {
		return packet{}, cut(err)
	}
	c.size = len(record)
	return packet{
		data: record[16:], wire: c.order.Uint32(record[12:]), timed: true,
		at: int64(c.order.Uint32(record))*1e9 + int64(c.order.Uint32(record[4:]))*c.unit,
	}, nil
}

// openSections reads a pcapng file as far as its first section header.
func (s *Source) openSections(in *bufio.Reader) error {
	s.blocks = &blocks{r: in}
	if _, err := s.blocks.next(&packet{}); err != nil {
		return cut(err)
	}
	s.stats.Format = "pcapng"
	s.read = s.blocks.read
	return nil
}

// notEthernet refuses a capture that has nothing for an Ethernet director.
func notEthernet(links []uint16) error {
	names := ""
	for i, l := range links {
		if i > 0 {
			names += ", "
		}
		names += linkName(l)
	}
	return fmt.Errorf("it has no Ethernet frames, only %s; capture on one Ethernet interface, as in `tcpdump -i eth0 -w FILE`", names)
}

func linkName(l uint16) string {
	switch {
	case l == 276:
		return "LINUX_SLL2 (tcpdump -i any)"
	case l == uint16(layers.LinkTypeLinuxSLL):
		return "LINUX_SLL (tcpdump -i any)"
	case l < 256:
		if n := layers.LinkType(l).String(); n != "" && n != "UnknownLinkType" {
			return n
		}
	}
	return fmt.Sprintf("link type %d", l)
}

// counter counts what is read of a file. Its count may be read at any time.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
