// Package config reads the configuration of a director, one file of YAML and those that it
// includes, into a Config of typed and valid values. Unknown keys are errors. All errors are told
// at once, in the order of the files; each says what is wrong and what would be right, with file,
// line, column and an excerpt of the place. What is read is bounded, and what errors quote is too.
//
// A Config says nothing about the host: where realservers live is decided by [Config.Plan], which
// is told the networks of the interfaces.
package config
