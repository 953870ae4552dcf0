// Package netlab makes networks in network namespaces, for the laboratory and for tests: hosts, learning switches, cables
// between them, and captures of what passes a port. All of it is made over netlink by this process, belongs to it and ends
// with it: a namespace is held open by a thread alone, and a command that runs in it dies with us.
//
// It needs no root where user namespaces are allowed: see [Privileged].
package netlab
