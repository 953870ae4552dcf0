package forwarder_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// exampleFrame is a client's first segment to 203.0.113.10:80, as the router sends it to the
// director.
func exampleFrame() frame.Frame {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{192, 0, 2, 7}, DstIP: net.IP{203, 0, 113, 10}}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true, Window: 65535}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		panic(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 0xfe}, EthernetType: layers.EthernetTypeIPv4},
		ip, tcp)
	if err != nil {
		panic(err)
	}
	return frame.Frame{Buf: b.Bytes(), Wire: int32(len(b.Bytes()))}
}

// A director with one service and two realservers is given a frame. A live one is given them by
// Run, from a Source.
func Example() {
	engine, err := forwarder.New(forwarder.Config{
		Legs:     []forwarder.Leg{{Name: "eth0", MAC: frame.MAC{2, 0, 0, 0, 0, 1}}},
		Settings: forwarder.DefaultSettings(),
	})
	if err != nil {
		panic(err)
	}
	defer engine.Close()

	web := forwarder.Service{
		Matches:   []forwarder.Match{{Addr: netip.MustParseAddr("203.0.113.10"), Proto: frame.TCP, First: 80, Last: 80}},
		Scheduler: "rr",
	}
	rs1, rs2 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	err = engine.Update(func(tx *forwarder.Tx) error {
		return errors.Join(
			tx.AddService(web),
			tx.AddDestination(web.Key(), forwarder.Destination{Addr: rs1, Port: 80, Weight: 1}),
			tx.AddDestination(web.Key(), forwarder.Destination{Addr: rs2, Port: 80, Weight: 1}))
	})
	if err != nil {
		panic(err)
	}
	// Who knows the realservers' MACs (package arpd, on a live director) tells the engine.
	if err := errors.Join(engine.SetNeighbour(0, rs1, frame.MAC{2, 0, 0, 0, 1, 1}), engine.SetNeighbour(0, rs2, frame.MAC{2, 0, 0, 0, 1, 2})); err != nil {
		panic(err)
	}

	for _, f := range engine.Worker(0).Process([]frame.Frame{exampleFrame()}, 0) {
		fmt.Println("to", f.Dst(), "from", f.Src(), "by leg", f.Out)
	}
	engine.Connections(func(c forwarder.ConnectionInfo) bool {
		fmt.Println(c.Proto, c.Client, c.Virtual, c.Destination, c.State)
		return true
	})
	fmt.Println(engine.Stats().Verdicts[forwarder.Forwarded], forwarder.Forwarded)

	// Output:
	// to 02:00:00:00:01:02 from 02:00:00:00:00:01 by leg 0
	// TCP 192.0.2.7:40000 203.0.113.10:80 10.0.0.2:80 SYN_RECV
	// 1 forwarded
}

// A transaction takes effect as a whole, for all workers, or not at all.
func ExampleControl_Update() {
	engine, err := forwarder.New(forwarder.Config{Legs: []forwarder.Leg{{Name: "eth0"}}, Settings: forwarder.DefaultSettings()})
	if err != nil {
		panic(err)
	}
	defer engine.Close()

	dns := forwarder.Service{
		Matches:   []forwarder.Match{{Addr: netip.MustParseAddr("203.0.113.10"), Proto: frame.UDP, First: 53, Last: 53}},
		Scheduler: "wlc",
	}
	rs1 := forwarder.Destination{Addr: netip.MustParseAddr("10.0.0.1"), Port: 53, Weight: 1}
	err = engine.Update(func(tx *forwarder.Tx) error {
		if err := tx.AddService(dns); err != nil {
			return err
		}
		if err := tx.AddDestination(dns.Key(), rs1); err != nil {
			return err
		}
		return tx.AddDestination(dns.Key(), rs1)
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, forwarder.ErrDestExists), len(engine.Services()))

	err = engine.Update(func(tx *forwarder.Tx) error {
		return tx.Apply(forwarder.Plan{
			Services: []forwarder.ServicePlan{{Service: dns, Destinations: []forwarder.Destination{rs1}}},
			Settings: forwarder.DefaultSettings(),
		})
	})
	fmt.Println(err, len(engine.Services()))

	// Output:
	// UDP 203.0.113.10:53: realserver 10.0.0.1: destination already exists
	// true 0
	// <nil> 1
}
