// Package lab is the laboratory of direct routing: the classic network with one public address, made in network namespaces,
// in which the real `shunt run` serves real TCP connections; and the proof, from captures at every hop, of what it did.
//
// [Build] makes the network, which the tests use too. [Run] is `shunt lab`.
package lab
