// Package scheduler chooses the realserver of a new flow with the fourteen schedulers of Linux
// IPVS. For the same sequence of commands and flows it chooses the same realservers in the same
// order.
//
// The package is pure computation: it has no sockets, clock or goroutines, and imports no other
// package of shunt. Each algorithm has its own file, which cites the kernel's.
//
// # Life of a scheduler
//
// The control plane calls [Build] with the complete list of destinations, newest first as in IPVS,
// and the changes that led to it. Build does all expensive work (Maglev tables) outside the
// datapath. Each worker gets its own instance from Fork. When the worker starts to use it, it calls
// Take once with the previous instance, so that cursors and caches carry over. From then on only
// this worker calls Schedule, which does not allocate.
//
// The load of destinations (active and inactive connections, overload) is not part of the instance.
// It is in the [Load] of each destination. All workers share it, and it outlives every instance.
package scheduler
