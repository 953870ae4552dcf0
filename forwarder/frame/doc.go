// Package frame defines the Ethernet frame of the datapath, and the [Packet] that the director
// parses from it. A [Frame] has lent bytes, the time of arrival and the leg on which it arrived.
//
// Nothing in this package allocates, keeps a reference to a frame or uses unsafe. A Frame and all
// slices of it are lent: they are valid until the next call of the Source that lent them. Values
// such as [Addr], [Tuple] and [Packet] hold no pointers and may be kept.
package frame
