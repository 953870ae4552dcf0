// Package ring is the live Source and Sink of a director. It uses AF_PACKET sockets with receive
// rings in memory shared with the kernel (packet(7), Documentation/networking/packet_mmap.rst).
//
// An [Engine] serves one worker. It reads the frames to the VIPs from all legs of the director, and
// sends frames on any leg. Frames keep their virtio_net_hdr, so checksum and segmentation offloads
// can stay enabled. Several engines share the legs of one director by PACKET_FANOUT: see [Shard].
//
// The parts, from the kernel up:
//
//   - socket.go opens and configures the sockets of one leg; filter.go and fanout.go generate their
//     classic BPF programs.
//   - walk.go walks the slots of a ring in plain memory, and validates everything that it reads.
//   - giant.go fetches the frames that do not fit into a slot.
//   - pace.go decides how long to wait, spin or gather; next.go does so, and fills a batch.
//   - send.go sends frames; vnet.go handles the virtio_net_hdr.
//   - engine.go creates and closes an engine; stats.go reports its counters.
//
// The package supports Linux only. Only files named *_unsafe.go use unsafe.
package ring
