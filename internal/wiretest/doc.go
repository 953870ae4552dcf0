// Package wiretest tests the program as its users meet it: the real binary as the director of a
// laboratory of network namespaces, with the TCP stack of the kernel as client and as realserver.
// All of it is in the tests.
package wiretest
