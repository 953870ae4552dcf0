// Package config reads the configuration file of a director: YAML as it is written, in which unknown keys are errors,
// into a Config of typed and valid values. Every error says what is wrong and what would be right, with file, line,
// column and an excerpt of the place.
//
// A Config says nothing about the host: where realservers live is decided by [Config.Plan], which is told the networks of
// the interfaces.
package config
