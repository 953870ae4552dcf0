package replay

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// A Sink writes each sent frame to a pcap file: Ethernet, with the time of the frame in
// nanoseconds. It must not be used concurrently.
type Sink struct {
	buf     *bufio.Writer
	pcap    *pcapgo.Writer
	scratch []byte
	err     error

	// Frames and Bytes count what was written.
	Frames, Bytes uint64
}

// NewSink writes a pcap file to w. The caller keeps w. The file is complete only after Flush.
func NewSink(w io.Writer) (*Sink, error) {
	k := &Sink{buf: bufio.NewWriterSize(w, 1<<16)}
	k.pcap = pcapgo.NewWriterNanos(k.buf)
	return k, k.pcap.WriteFileHeader(maxFrame, layers.LinkTypeEthernet)
}

// Send writes frames. After the first frame that could not be written, all frames are lost: see
// Err.
func (k *Sink) Send(batch []frame.Frame) (lost forwarder.Lost) {
	for i := range batch {
		if k.err == nil {
			k.err = k.write(&batch[i])
		}
		if k.err != nil {
			lost.Refused++
		}
	}
	return lost
}

func (k *Sink) write(f *frame.Frame) error {
	data, wire := f.Data(), int(f.Wire)
	if f.TPID != 0 && len(data) >= 2*len(frame.MAC{}) {
		// A tag that the kernel keeps beside the frame is a part of it on the wire.
		k.scratch = append(k.scratch[:0], data[:12]...)
		k.scratch = binary.BigEndian.AppendUint16(k.scratch, f.TPID)
		k.scratch = binary.BigEndian.AppendUint16(k.scratch, f.TCI)
		k.scratch = append(k.scratch, data[12:]...)
		data, wire = k.scratch, wire+frame.VLANTagLen
	}
	if sec := f.Time / int64(time.Second); sec < 0 || sec > math.MaxUint32 {
		return fmt.Errorf("a frame has the time %s; a pcap file cannot hold times after %s", utc(f.Time), utc(math.MaxUint32*int64(time.Second)))
	}
	err := k.pcap.WritePacket(gopacket.CaptureInfo{
		Timestamp: time.Unix(0, f.Time), CaptureLength: len(data), Length: max(wire, len(data)),
	}, data)
	if err == nil {
		k.Frames++
		k.Bytes += uint64(len(data))
	}
	return err
}

// Flush writes the buffered data and returns the first error of the Sink.
func (k *Sink) Flush() error {
	if err := k.buf.Flush(); k.err == nil {
		k.err = err
	}
	return k.err
}

// Err returns the first error. After it, nothing is written.
func (k *Sink) Err() error { return k.err }

// Discard is a Sink that counts frames and discards them.
type Discard struct {
	Frames, Bytes uint64
}

// Send counts all frames.
func (d *Discard) Send(batch []frame.Frame) forwarder.Lost {
	d.Frames += uint64(len(batch))
	for i := range batch {
		d.Bytes += uint64(len(batch[i].Data()))
	}
	return forwarder.Lost{}
}

// A Tee sends each batch to all of its Sinks, in order. It reports the losses of the first Sink;
// the losses of the others are ignored.
type Tee []forwarder.Sink

// Send sends a batch to all Sinks.
func (t Tee) Send(batch []frame.Frame) (lost forwarder.Lost) {
	for i, sink := range t {
		if l := sink.Send(batch); i == 0 {
			lost = l
		}
	}
	return lost
}

var (
	_ forwarder.Sink = (*Sink)(nil)
	_ forwarder.Sink = (*Discard)(nil)
	_ forwarder.Sink = Tee(nil)
)
