// Package doctor finds what goes wrong in direct routing, on the director's host and towards each
// realserver. It looks at the configuration, at this host, at the counters of the running director
// if there is one, and sends probes of its own:
//
//   - who answers when the VIPs and the realservers' addresses are asked for (ARP, neighbour discovery);
//   - a ping and a SYN to the VIP, in frames to the MAC of each realserver, as the director forwards them. The answer goes
//     to an address of this host, so that it is seen; a connection that a SYN half opened is reset;
//   - a ping from an address outside of the realservers' networks, a stranger's, whose answer takes the default route. From which
//     MAC it comes tells by whom: the gateway, or the realserver itself, whose default route is then the director.
//
// Nothing is changed, and no client's connection is touched: probes come from addresses and ports
// of this host, or from one that no host has and for which the doctor answers as long as it looks.
// Each [Finding] has its evidence and its remedy. What could not be looked at is an [Unknown]:
// neither wrong nor well. What was looked at and found well is listed too.
package doctor
