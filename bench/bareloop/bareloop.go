// Package bareloop is the least that a forwarder over AF_PACKET must do: frames in by a TPACKET_V3
// ring, one fixed MAC, frames out by sendmmsg, poll in between. It has no table, no answers and no
// offloads. What a director costs is told as a multiple of what this costs.
package bareloop

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"shunt/bench/afpacket"
	"shunt/forwarder/frame"
)

// Run forwards what comes to vip, an IPv4 address, on interface in to mac by interface out. It ends
// with an error only.
func Run(in, out string, vip netip.Addr, mac frame.MAC) error {
	rx, err := afpacket.NewReceiver(in)
	if err != nil {
		return err
	}
	fd, err := afpacket.Open(out, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	tx := afpacket.NewQueue(fd)
	want := binary.BigEndian.Uint32(vip.AsSlice())
	each := func(b []byte) error {
		if len(b) < frame.HeaderLen+20 || binary.BigEndian.Uint32(b[frame.HeaderLen+16:]) != want {
			return nil
		}
		copy(b, mac[:])
		return tx.Add(b)
	}
	for {
		if err := rx.Block(each, tx.Flush); err != nil {
			return err
		}
	}
}
