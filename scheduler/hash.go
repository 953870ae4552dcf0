package scheduler

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// fold is an address as IPVS hashes it: an IPv4 address in host order, of an IPv6 address the
// exclusive or of its four words.
func fold(a netip.Addr) uint32 {
	if a.Is4() || a.Is4In6() {
		b := a.As4()
		return binary.BigEndian.Uint32(b[:])
	}
	b := a.As16()
	return binary.BigEndian.Uint32(b[0:]) ^ binary.BigEndian.Uint32(b[4:]) ^
		binary.BigEndian.Uint32(b[8:]) ^ binary.BigEndian.Uint32(b[12:])
}

// hashBits is the logarithm of the size of the tables of dh and sh (IP_VS_DH_TAB_BITS,
// IP_VS_SH_TAB_BITS).
const (
	hashBits = 8
	hashSize = 1 << hashBits
)

// hash32 is the kernel's hash_32 (include/linux/hash.h), for tables of hashSize.
func hash32(v uint32) uint32 { return v * 0x61c88647 >> (32 - hashBits) }

// siphash13 is the kernel's hsiphash_1u32 on 64-bit hosts: SipHash-1-3 of one 32-bit number, of
// which it keeps the lower half (lib/siphash.c). Both words of the key are key.
func siphash13(v uint32, key uint64) uint32 {
	v0, v1, v2, v3 := 0x736f6d6570736575^key, 0x646f72616e646f6d^key, 0x6c7967656e657261^key, 0x7465646279746573^key
	b := uint64(4)<<56 | uint64(v)
	v3 ^= b
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	round()
	v0 ^= b
	v2 ^= 0xff
	round()
	round()
	round()
	return uint32(v0 ^ v1 ^ v2 ^ v3)
}
