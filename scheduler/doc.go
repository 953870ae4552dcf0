// Package scheduler chooses the realserver of a new flow, as the fourteen schedulers of Linux IPVS do: the same
// realserver in the same order for the same sequence of commands and flows.
//
// It is pure arithmetic: no sockets, no clock, no goroutines, and nothing of the other packages. One algorithm is one
// file, which cites the kernel's.
//
// # Life of a scheduler
//
// A control plane calls [Build] with the whole list of destinations, newest first as IPVS keeps it, and the changes
// that led to it; that does everything expensive (Maglev tables) away from the traffic. Each worker gets its own
// instance by Fork and, when it starts to use it, calls Take once with the instance it used before, so that cursors
// and caches carry over. From then on only Schedule is called, by that worker alone; it does not allocate.
//
// What destinations carry (active and inactive connections, overload) is not in the instance but in the [Load] of
// each destination, which all workers share and which outlives every instance.
package scheduler
