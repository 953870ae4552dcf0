package scheduler_test

import (
	"fmt"
	"net/netip"

	"shunt/scheduler"
)

// A service with two realservers, of which the second was added last and so comes first.
func ExampleBuild() {
	list := []scheduler.Destination{
		{ID: 2, Addr: netip.MustParseAddr("10.10.0.12"), Weight: 2, LastWeight: 2, Load: new(scheduler.Load)},
		{ID: 1, Addr: netip.MustParseAddr("10.10.0.11"), Weight: 1, LastWeight: 1, Load: new(scheduler.Load)},
	}
	s, err := scheduler.Build("wlc", scheduler.Options{}, list, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Take(nil)
	request := scheduler.Request{Client: netip.MustParseAddr("192.0.2.7"), Virtual: netip.MustParseAddr("192.168.10.100")}
	for range 3 {
		i := s.Schedule(&request)
		list[i].Load.Open() // the flow begins,
		list[i].Load.Activate()
		fmt.Println(list[i].Addr)
	}
	// Output:
	// 10.10.0.12
	// 10.10.0.11
	// 10.10.0.12
}
