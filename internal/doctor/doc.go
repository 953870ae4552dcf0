// Package doctor diagnoses direct routing on the director's host and towards each realserver. It
// checks the configuration, this host and the counters of the running director, if there is one,
// and sends probes:
//
//   - Requests for the VIPs and the realservers' addresses (ARP, neighbour discovery), to see which
//     hosts answer.
//   - A ping and a SYN to the VIP, in frames to the MAC of each realserver, as the director
//     forwards them. Their source is an address of this host, so the replies arrive here. A
//     connection half-opened by a SYN is reset.
//   - A ping from an address outside the realservers' networks. Its reply takes the default route.
//     The source MAC of the reply shows the path: the gateway, or the realserver itself, whose
//     default route is then the director.
//
// Nothing is changed, and no client's connection is affected. Probes use addresses and ports of
// this host, or an unused address for which the doctor answers ARP during the check. Each [Finding]
// has its evidence and its remedy. An [Unknown] is a check that could not run. Successful checks
// are listed, too.
package doctor
