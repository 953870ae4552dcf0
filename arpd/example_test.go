package arpd_test

import (
	"fmt"
	"net/netip"
	"time"

	"shunt/arpd"
	"shunt/forwarder/frame"
)

var (
	director   = frame.MAC{2, 0, 0, 0, 0, 2}
	realserver = frame.MAC{2, 0, 0, 0, 0, 0x11}
)

// A director asks for a realserver and learns its MAC from the answer.
func ExampleResolver() {
	r := arpd.NewResolver(30 * time.Second)
	now := time.Unix(0, 0)
	dip, rip := netip.MustParseAddr("10.10.0.2"), netip.MustParseAddr("10.10.0.11")
	r.SetTargets(map[netip.Addr]frame.MAC{rip: {}}, now)
	questions, next := r.Due(&arpd.Self{MAC: director, V4: dip}, now)
	fmt.Printf("who has %s? tell %s; ask again after %s\n", questions[0].Target, questions[0].Sender, next.Sub(now))
	r.Handle(&arpd.Message{Reply: true, SenderMAC: realserver, Sender: rip, TargetMAC: director, Target: dip, Destination: director}, now)
	for _, n := range r.Neighbours() {
		fmt.Println(n.Addr, n.MAC, n.State)
	}
	// Output:
	// who has 10.10.0.11? tell 10.10.0.2; ask again after 100ms
	// 10.10.0.11 02:00:00:00:00:11 resolved
}

// A director answers for its VIP, and for nothing else.
func ExampleResponder() {
	r := arpd.NewResponder()
	vip := netip.MustParseAddr("192.168.10.100")
	r.SetVIPs([]netip.Addr{vip})
	router := frame.MAC{2, 0, 0, 0, 0, 0x10}
	question := arpd.Message{SenderMAC: router, Sender: netip.MustParseAddr("192.168.10.1"), Target: vip}
	answer, send, _ := r.Handle(&question, director, time.Now())
	fmt.Println(send, answer.Sender, "is at", answer.SenderMAC)
	// Output:
	// true 192.168.10.100 is at 02:00:00:00:00:02
}
