// Package replaybench measures the datapath without wires: what a frame costs a worker, whatever
// network it may come from.
//
// A Rig is an engine with services, realservers and flows. A Lender gives it frames as a ring does:
// a few thousand slots, filled while the clock stands, so that the frames lie in the processor's
// cache as those lie that a kernel has just written, and what fills them is not counted. What is
// counted is the thread's CPU time, not the time of day: on a machine that others use too the one
// repeats and the other does not.
package replaybench
