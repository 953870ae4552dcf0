package replay_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/replay"
)

// A capture with one SYN to a virtual service goes through an engine, and what the engine sends
// becomes a capture.
func Example() {
	syn, _ := hex.DecodeString("020000000001" + "020000000002" + "0800" +
		"450000280001400040063cbdc0000207cb00710a" + // 192.0.2.7 to 203.0.113.10
		"9c400050" + "00000001" + "00000000" + "5002ffff" + "00000000")
	var in bytes.Buffer
	made, _ := replay.NewSink(&in)
	made.Send([]frame.Frame{{Buf: syn, Wire: int32(len(syn)), Time: 1_700_000_000_000_000_000}})
	made.Flush()

	src, err := replay.New("in.pcap", &in, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	first, _ := src.First()
	engine, err := forwarder.New(forwarder.Config{
		Legs: []forwarder.Leg{{Name: "capture", MAC: frame.MAC{2, 0, 0, 0, 0, 1}, AnyMAC: true}}, Flows: 1024,
		Seed: [2]uint64{1, 2}, Epoch: first, Exact: true, Settings: forwarder.DefaultSettings(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer engine.Close()
	service := forwarder.Service{Scheduler: "rr", Matches: []forwarder.Match{
		{Addr: netip.MustParseAddr("203.0.113.10"), Proto: frame.TCP, First: 80, Last: 80},
	}}
	rip := netip.MustParseAddr("10.0.0.11")
	engine.Update(func(tx *forwarder.Tx) error {
		if err := tx.AddService(service); err != nil {
			return err
		}
		return tx.AddDestination(service.Key(), forwarder.Destination{Addr: rip, Port: 80, Weight: 1})
	})
	engine.SetNeighbour(0, rip, frame.MAC{2, 0, 0, 0, 0, 0x11})

	var out bytes.Buffer
	sink, _ := replay.NewSink(&out)
	fmt.Println(engine.Worker(0).Run(context.Background(), src, sink), sink.Flush(), sink.Frames)

	sent, _ := replay.New("out.pcap", &out, 0)
	batch := make([]frame.Frame, 1)
	sent.Next(batch)
	fmt.Println(batch[0].Src(), ">", batch[0].Dst())
	// Output:
	// <nil> <nil> 1
	// 02:00:00:00:00:01 > 02:00:00:00:00:11
}
