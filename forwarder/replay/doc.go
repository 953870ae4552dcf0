// Package replay reads and writes captures of Ethernet frames. A [Source] lends the frames of a
// pcap or pcapng file, optionally gzip-compressed. A [Sink] writes the sent frames of an engine to
// a pcap file. With both, the code of the live datapath runs over a capture.
//
// The only clock of a replay is the capture's. The output depends only on the file and the
// configuration.
package replay
