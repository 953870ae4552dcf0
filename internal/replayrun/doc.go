// Package replayrun is `shunt replay`: it builds an engine from a configuration, runs a capture
// through it, and reports what became of every packet and of every flow. The same capture and
// configuration give the same bytes and the same report, always. Compare does so with two
// configurations at once, and reports where they part.
package replayrun
