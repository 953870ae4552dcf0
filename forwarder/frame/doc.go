// Package frame holds the Ethernet frame as the director sees it: lent bytes, the time it arrived and the leg it
// came in by; and what the director reads from it, the [Packet].
//
// Nothing here allocates, keeps a reference to a frame or uses unsafe. A [Frame] and all slices of it are lent: they
// are valid until the Source that lent them is asked for the next batch. Values such as [Addr], [Tuple] and [Packet]
// hold no pointers and may be kept.
package frame
