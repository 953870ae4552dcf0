package bareloop

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"shunt/bench/afpacket"
	"shunt/forwarder/frame"
)

// RunOffloads is Run for frames with a virtio_net_hdr, so that real TCP with the offloads of its
// interface passes: each super-frame is copied into a slot by the kernel, and out of it by the
// kernel again.
func RunOffloads(in, out string, vip netip.Addr, mac frame.MAC) error {
	rx, err := afpacket.NewSlots(in)
	if err != nil {
		return err
	}
	fd, err := afpacket.OpenVnet(out)
	if err != nil {
		return err
	}
	tx := afpacket.NewQueue(fd)
	want := vip.AsSlice()
	for {
		if err := rx.Wait(); err != nil {
			return err
		}
		for {
			b := rx.Take()
			if b == nil {
				break
			}
			data := b[afpacket.VnetLen:]
			if len(data) < frame.HeaderLen+20 || binary.BigEndian.Uint16(data[12:]) != frame.EtherTypeIPv4 ||
				!bytes.Equal(data[frame.HeaderLen+16:][:4], want) {
				continue
			}
			copy(data, mac[:])
			if err := tx.Add(b); err != nil {
				return err
			}
		}
		if err := tx.Flush(); err != nil {
			return err
		}
		rx.GiveBack()
	}
}
