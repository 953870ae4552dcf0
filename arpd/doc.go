// Package arpd decides and defends which MAC an address of the director or its realservers has, by ARP for IPv4 (RFC 826,
// RFC 5227) and by neighbour discovery for IPv6 (RFC 4861):
//
//   - [Responder] answers requests for virtual addresses (VIPs), and notices when somebody else claims one: the famous
//     ARP problem of direct routing, where a realserver that has the VIP on its loopback answers for it too.
//   - [Announcer] says when to announce the VIPs and to look for others that answer for them.
//   - [Resolver] finds the MACs of realservers, keeps them fresh, and tells when they change or cannot be found.
//
// These three are arithmetic over messages and times that they are given; a [Link] runs them on one interface, with one
// reader of its messages, over a [Conn] such as [Dial] opens.
package arpd
