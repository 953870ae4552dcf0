//go:build !race

package wiretest

const race = false
