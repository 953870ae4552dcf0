// Package arpd answers, announces and resolves addresses on a link, by ARP for IPv4 (RFC 826, RFC
// 5227) and by neighbour discovery for IPv6 (RFC 4861):
//
//   - [Responder] answers requests for virtual addresses (VIPs), and detects other hosts that claim
//     a VIP. A typical one is the ARP problem of direct routing: a realserver that has the VIP on
//     its loopback interface answers ARP for it.
//   - [Announcer] decides when to announce the VIPs, and when to probe for other hosts that answer
//     for them.
//   - [Resolver] resolves the MACs of realservers, keeps them current, and reports changes and
//     failures.
//
// These three types do no I/O: messages and times are arguments. A [Link] runs them on one
// interface, with one reader, over a [Conn] such as that of [Dial].
package arpd
