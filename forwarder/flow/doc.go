// Package flow is the connection table of a director: which realserver has which flow, in which
// state it is, and when it is forgotten. It knows the states and timeouts of IPVS as a
// direct-routing director sees them, but neither services nor realservers: a destination is a
// number here.
//
// # Layout
//
// The table is one piece of memory without pointers, mapped outside the Go heap: a header, then for
// each bucket of 16 slots one cache line of tags and due times with 32 bytes for each slot behind
// it, then 16 bytes for each slot that are only touched by IPv6 flows. A flow may live in either of
// two buckets, chosen by a keyed hash, and never moves, so that its slot number names it for its
// life. Everything in it is numbers that another process can understand: slots, ids, ticks since an
// epoch that stands in the header.
//
// # Time
//
// The table has no clock. Advance tells it the time and forgets what is due; a flow is never found
// after its deadline, whether Advance has come by it or not. Deadlines have a resolution of [Tick],
// about 17 ms.
//
// A Table belongs to one goroutine, the worker; no method may be called from another at the same
// time.
package flow
