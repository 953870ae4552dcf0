// Package convert turns what other programs of LVS are told into a configuration of shunt:
// virtual_server blocks of keepalived.conf, the output of `ipvsadm -S`, and ldirectord.cf. What has
// no counterpart is listed with file and line; a service that cannot work as it is written stands
// in the result as a comment.
//
// A reader makes services as IPVS would have them after the other program has read the file, its
// defaults and oddities included. keepalived.conf is read in three steps: text (textReader),
// statements (node), services (virtualServer). ldirectord.cf becomes command lines of ipvsadm, as
// it does with ldirectord, and those are carried out by internal/ipvsadm. Then judge says what of
// it shunt can have, and write writes that.
//
// Sources: keepalived.conf(5), ipvsadm(8), ldirectord(8), and the programs themselves: .ci/convert
// compares with keepalived 2.2.7 and ldirectord 4.12.
package convert
