package ipvsadm

import (
	"math/bits"
	"net/netip"
	"strconv"

	"shunt/api"
)

// SetNetmask sets which clients of an IPv4 service stay together, as -M and keepalived write it.
// ipvsadm takes any mask, whether it is that of a prefix or not.
func SetNetmask(s *api.VirtualService, mask netip.Addr) {
	s.MaskBits, s.Netmask = 0, netip.Addr{}
	m := number4(mask)
	switch n := bits.OnesCount32(m); {
	case n == 0 || m != ^uint32(0)<<(32-n):
		s.Netmask = mask
	case n < 32:
		s.MaskBits = n
	}
}

// SetPrefix does it for a service of IPv6, by the length of a prefix from 1 to 128.
func SetPrefix(s *api.VirtualService, n int) {
	if s.MaskBits, s.Netmask = n, (netip.Addr{}); n == 128 {
		s.MaskBits = 0
	}
}

// netmask is that of an IPv4 service.
func netmask(s *api.VirtualService) netip.Addr {
	switch {
	case s.Netmask.IsValid():
		return s.Netmask
	case s.MaskBits == 0:
		return addr4(^uint32(0))
	}
	return addr4(^uint32(0) << max(32-s.MaskBits, 0))
}

// netmaskText is the netmask as it is written, or nothing if it is that of a whole address.
func netmaskText(s *api.VirtualService) string {
	switch {
	case s.MaskBits == 0 && !s.Netmask.IsValid():
		return ""
	case s.Is6():
		return strconv.Itoa(s.MaskBits)
	}
	return netmask(s).String()
}
