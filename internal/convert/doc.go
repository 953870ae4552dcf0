// Package convert turns what other programs of LVS are told into a configuration of shunt: virtual_server blocks of
// keepalived.conf, the output of `ipvsadm -S`, and ldirectord.cf. What has no counterpart is listed with file and line; a
// service that cannot work as it is written stands in the result as a comment.
//
// Sources: keepalived.conf(5), ipvsadm(8), ldirectord(8).
package convert
