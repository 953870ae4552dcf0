package flow

import (
	"math/bits"

	"shunt/forwarder/frame"
)

// Kind is the protocol of an entry, and whether it is a flow or a persistence template.
type Kind uint8

// The protocols that a table keeps. AnyProto is that of the templates of a group (a firewall mark
// in IPVS).
const (
	TCP Kind = iota + 1
	UDP
	SCTP
	AnyProto
	// Template marks a persistence template; it is or-ed to a protocol.
	Template Kind = 0x80
)

// KindOf returns the kind of a flow of protocol p, or 0 if such flows are not kept.
func KindOf(p frame.Proto) Kind {
	switch p {
	case frame.TCP:
		return TCP
	case frame.UDP:
		return UDP
	case frame.SCTP:
		return SCTP
	}
	return 0
}

// IsTemplate reports whether the entry is a persistence template.
func (k Kind) IsTemplate() bool { return k&Template != 0 }

// String names the protocol as ipvsadm -Lnc does.
func (k Kind) String() string {
	switch k &^ Template {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	case AnyProto:
		return "IP"
	}
	return "?"
}

// A Key identifies an entry, as (family, protocol, client, client port, VIP, virtual port) does in
// IPVS. The VIP is a number that stands for an address, or for a mark, and so for the family too.
type Key struct {
	Client      frame.Addr // masked in a template
	VIP         uint16
	ClientPort  uint16 // 0 in a template
	VirtualPort uint16
	Kind        Kind
}

// A Short is the Key of a flow of IPv4 in the form in which entries hold it, so that it is compared
// at once. Of one of IPv6 it is all but what the client's address has beyond 32 bits.
type Short struct {
	ident ident
	vip   uint16
	kind  Kind
}

// ShortKey returns the key of a flow from an IPv4 client, in host order.
func ShortKey(client uint32, clientPort, virtualPort, vip uint16, kind Kind) Short {
	return Short{makeIdent(client, clientPort, virtualPort), vip, kind}
}

// ShortKey6 returns what fits of the key of a flow from an IPv6 client.
func ShortKey6(client frame.Addr, clientPort, virtualPort, vip uint16, kind Kind) Short {
	return Short{makeIdent(compact6(client), clientPort, virtualPort), vip, kind}
}

// Key returns the key that s, which must be of IPv4, stands for.
func (s *Short) Key() Key {
	return Key{Client: frame.AddrFrom4(s.ident.client()), VIP: s.vip, ClientPort: s.ident.cport(), VirtualPort: s.ident.vport(), Kind: s.kind}
}

// Kind returns the protocol.
func (s *Short) Kind() Kind { return s.kind }

// VIP returns the number of the VIP.
func (s *Short) VIP() uint16 { return s.vip }

// ident is a client's address, or 32 bits of it, and both ports.
type ident uint64

func makeIdent(client uint32, cport, vport uint16) ident {
	return ident(vport)<<48 | ident(cport)<<32 | ident(client)
}

func (i ident) client() uint32 { return uint32(i) }
func (i ident) cport() uint16  { return uint16(i >> 32) }
func (i ident) vport() uint16  { return uint16(i >> 48) }

func (k *Key) ident() ident { return makeIdent(compact(k.Client), k.ClientPort, k.VirtualPort) }

// Hash is the keyed hash of a Key; see [Table.Hash].
type Hash uint64

// Hash returns the hash of k under the table's seed. Without the seed nobody can choose keys that
// meet in a bucket.
func (t *Table) Hash(k *Key) Hash {
	return hash(k, t.seed0, t.seed1)
}

// HashShort is the Hash of the key that s stands for.
func (t *Table) HashShort(s *Short) Hash {
	return fold(0, frame.AddrFrom4(s.ident.client()).Lo, s.small(), t.seed0, t.seed1)
}

// HashShort6 is the Hash of the key from an IPv6 client that s is part of.
func (t *Table) HashShort6(s *Short, client frame.Addr) Hash {
	return fold(client.Hi, client.Lo, s.small(), t.seed0, t.seed1)
}

// small is what is hashed of a key besides the client's address.
func (s *Short) small() uint64 {
	return uint64(s.vip)<<48 | uint64(s.ident>>32&0xffff)<<32 | uint64(s.ident>>48)<<16 | uint64(s.kind)
}

// spread makes a secret of a seed, so that a poor one, such as a small number, hashes as well as
// any (SplitMix64).
func spread(z uint64) uint64 {
	z *= 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func hash(k *Key, seed0, seed1 uint64) Hash {
	small := uint64(k.VIP)<<48 | uint64(k.ClientPort)<<32 | uint64(k.VirtualPort)<<16 | uint64(k.Kind)
	return fold(k.Client.Hi, k.Client.Lo, small, seed0, seed1)
}

// fold hashes a client's address and the rest of a key by 64x64->128 bit multiplications, two for
// IPv4 and three for IPv6, each with a secret operand (the construction of wyhash).
func fold(clientHi, clientLo, small, seed0, seed1 uint64) Hash {
	hi, lo := bits.Mul64(clientLo^seed0, small^seed1)
	if clientHi != 0 {
		h2, l2 := bits.Mul64(clientHi^seed1, lo^seed0)
		hi, lo = hi^h2, l2
	}
	hi, lo = bits.Mul64(lo^0x9e3779b97f4a7c15, hi^seed0)
	return Hash(hi ^ lo)
}

// compact is what of a client's address fits an entry: all of an IPv4 address, 32 bits of an IPv6
// address, whose whole is kept beside.
func compact(a frame.Addr) uint32 {
	if a.Is4() {
		return a.V4()
	}
	return compact6(a)
}

func compact6(a frame.Addr) uint32 {
	x := a.Hi ^ bits.RotateLeft64(a.Lo, 29)
	return uint32(x ^ x>>32)
}
