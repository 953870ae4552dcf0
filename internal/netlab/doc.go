// Package netlab creates networks in network namespaces, for the lab and for tests: hosts, learning
// switches, cables, and captures of ports. This process creates them over netlink, and they end
// with it: only a thread holds a namespace open, and a command in a namespace is killed with this
// process.
//
// Root is not needed where user namespaces are allowed: see [Privileged].
package netlab
