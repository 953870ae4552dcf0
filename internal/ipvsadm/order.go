package ipvsadm

import (
	"net/netip"

	"shunt/api"
)

// compareServices is ipvs_cmp_services in libipvs.c, which subtracts 32-bit numbers into an int:
// addresses of which the difference is 2^31 or more come out the wrong way round, so that
// 192.0.2.100 is before 10.0.0.1.
func compareServices(a, b *api.TableService) int32 {
	if r := int32(a.Mark - b.Mark); r != 0 {
		return r
	}
	if a.Is6() != b.Is6() {
		if b.Is6() {
			return -1
		}
		return 1
	}
	if a.Mark != 0 {
		return 0 // what else identifies a service is zero in one of a mark
	}
	if r := protocolNumbers[a.Protocol] - protocolNumbers[b.Protocol]; r != 0 {
		return r
	}
	if r := compareAddrs(a.Address, b.Address); r != 0 {
		return r
	}
	return int32(a.Port) - int32(b.Port)
}

// compareServers is ipvs_cmp_dests.
func compareServers(a, b *api.TableServer) int32 {
	if r := compareAddrs(a.Address, b.Address); r != 0 {
		return r
	}
	return int32(a.Port) - int32(b.Port)
}

func compareAddrs(a, b netip.Addr) int32 {
	if a.Is4() && b.Is4() {
		return int32(number4(a) - number4(b))
	}
	v, w := words6(a), words6(b)
	for i := range v {
		if r := int32(v[i] - w[i]); r != 0 {
			return r
		}
	}
	return 0
}

// sortAs is the merge sort of glibc's qsort. With such a comparison the order depends on which
// elements are compared.
func sortAs[T any](s []T, compare func(a, b *T) int32) {
	if len(s) < 2 {
		return
	}
	a, b := s[:len(s)/2], s[len(s)/2:]
	sortAs(a, compare)
	sortAs(b, compare)
	merged := make([]T, 0, len(s))
	for len(a) > 0 && len(b) > 0 {
		if compare(&a[0], &b[0]) <= 0 {
			merged, a = append(merged, a[0]), a[1:]
		} else {
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	merged = append(append(merged, a...), b...)
	copy(s, merged)
}
