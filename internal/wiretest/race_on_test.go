//go:build race

package wiretest

// race tells that the tests are built with the race detector. The director is then built with it
// too.
const race = true
