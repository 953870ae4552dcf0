// Package forwarder is the engine of an LVS/DR director: it takes frames from a Source, finds or
// chooses the realserver of each flow, and hands the same frames, with another destination MAC, to
// a Sink.
//
// process.go holds the whole path of a frame, to be read from top to bottom. The parts it calls on:
//
//	frame   what a frame is and how it is read
//	flow    the connection table, its states and timers
//	ring    the live Source and Sink, on AF_PACKET
//	replay  the Source and Sink of capture files
package forwarder
