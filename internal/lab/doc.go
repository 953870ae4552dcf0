// Package lab implements the direct routing lab: the classic network with one public address, in
// network namespaces. The real `shunt run` serves real TCP connections in it, and captures at every
// hop verify the result.
//
// Build creates the network, for tests as well. Run is `shunt lab`.
package lab
