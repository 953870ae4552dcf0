// Package replay reads and writes captures of Ethernet frames: a [Source] lends the frames of a pcap or pcapng file,
// gzip-compressed or not, and a [Sink] writes what an engine sends to a pcap file. With both, the very code that runs
// live runs over a capture.
//
// The time of a replay is that of the capture and nothing else: what comes out depends on the file and on the
// configuration only.
package replay
