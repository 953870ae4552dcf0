// Package doctor finds what goes wrong in direct routing, on the director's host and towards each realserver. It looks at
// the configuration, at this host, at the counters of the running director if there is one, and sends probes of its own:
//
//   - who answers when the VIPs and the realservers' addresses are asked for (ARP, neighbour discovery);
//   - a ping and a SYN to the VIP, in frames to the MAC of each realserver, as the director forwards them. The answer goes
//     to an address of this host, so that it is seen; a connection that a SYN half opened is reset.
//
// Nothing is changed, and no client's connection is touched: probes come from addresses and ports of this host. Each
// [Finding] has its evidence and its remedy. What was looked at and found well is listed too.
package doctor
