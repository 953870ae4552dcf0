// Package realserver makes the host that it runs on a realserver of direct routing, looks whether
// it is one, and takes back what it changed: the VIPs on lo, silence about them on the wire
// (arp_ignore, arp_announce), no strict reverse path filter, and the default route by the private
// gateway; for IPv4 and IPv6.
//
// Everything is a [step] that looks before it sets, so that it may be run again at any time. What
// was there before is noted in a file under /run, which ends with the boot as the settings
// themselves do. All functions act on the network namespace of the calling thread.
//
// Sources: Documentation/networking/ip-sysctl.rst of the kernel for the settings; arp_ignore() in
// net/ipv4/arp.c and ndisc_recv_ns() in net/ipv6/ndisc.c for who answers.
package realserver
