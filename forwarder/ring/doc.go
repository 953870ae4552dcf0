// Package ring is the live Source and Sink of a director: AF_PACKET sockets whose receive rings lie in memory shared
// with the kernel (packet(7), Documentation/networking/packet_mmap.rst).
//
// An [Engine] serves one worker. It reads the frames to the VIPs from all legs of the director and sends frames out of
// any of them, with their virtio_net_hdr, so that checksum and segmentation offloads may stay on. Several engines
// share the legs of one director by PACKET_FANOUT: see [Shard].
//
// The parts, from the kernel up:
//
//   - socket.go opens and sets up the sockets of one leg; filter.go and fanout.go write their classic BPF programs.
//   - walk.go walks the slots of a ring over plain memory and trusts nothing that it finds there.
//   - giant.go fetches the frames that do not fit into a slot.
//   - pace.go decides how long to wait, spin or gather; next.go does it, and fills a batch.
//   - send.go puts frames out again; vnet.go knows the virtio_net_hdr.
//   - engine.go builds all of it and takes it down; stats.go tells how it fares.
//
// The package runs on Linux only. Only files named *_unsafe.go use unsafe.
package ring
