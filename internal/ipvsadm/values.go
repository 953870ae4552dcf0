package ipvsadm

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"shunt/forwarder"
	"shunt/scheduler"
)

// spaces are what C's isspace takes for blanks.
const spaces = " \t\n\v\f\r"

// strtol reads a whole string as C's strtol does with base 10: leading blanks and a sign are
// allowed.
func strtol(s string) (int64, bool) {
	s = strings.TrimLeft(s, spaces)
	if strings.Contains(s, "_") {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// number is ipvsadm's string_to_number.
func number(s string, low, high int64) (int, bool) {
	n, ok := strtol(s)
	if !ok || n < low || n > high {
		return 0, false
	}
	return int(n), true
}

// atoi is C's: the digits that it begins with, or 0.
func atoi(s string) int64 {
	s = strings.TrimLeft(s, spaces)
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && (s[end] == '-' || s[end] == '+')) {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return n
}

// maxTimeout is 31 days, in seconds: ipvsadm's bound, which is the engine's too.
var maxTimeout = int64(forwarder.Timeouts.High / time.Second)

// parseTimeout reads a number of seconds.
func parseTimeout(s string, low int64) (int, error) {
	n, ok := number(s, low, maxTimeout)
	if !ok {
		return 0, fail("invalid timeout value `%s' specified", s)
	}
	return n, nil
}

func parseMark(s string) (uint32, error) {
	n, ok := strtol(s)
	if !ok || n <= 0 || n > math.MaxUint32 {
		return 0, fail("invalid fwmark value `%s' specified", s)
	}
	return uint32(n), nil
}

// inetAton reads an IPv4 address as inet_aton(3) does: up to four numbers, decimal, octal or
// hexadecimal, of which the last fills what is left; anything may follow after a blank. So -M 24 is
// 0.0.0.24.
func inetAton(s string) (netip.Addr, bool) {
	if i := strings.IndexAny(s, spaces); i >= 0 {
		s = s[:i]
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, p := range parts {
		n, ok := strtoul(p)
		limit := uint64(0xff)
		if i == len(parts)-1 {
			limit = math.MaxUint32 >> (8 * i)
		}
		if !ok || n > limit {
			return netip.Addr{}, false
		}
		if i < len(parts)-1 {
			v |= n << (24 - 8*i)
		} else {
			v |= n
		}
	}
	return addr4(uint32(v)), true
}

// strtoul reads digits whose base is that of C's literals.
func strtoul(s string) (uint64, bool) {
	base := 10
	if len(s) > 1 && s[0] == '0' {
		s, base = s[1:], 8
		if s[0] == 'x' || s[0] == 'X' {
			s, base = s[1:], 16
		}
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil
}

func addr4(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// number4 is an address of IPv4 as a number; 0 if there is none.
func number4(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// words6 are the four 32-bit words of an address of IPv6; 0 if there is none.
func words6(a netip.Addr) (w [4]uint32) {
	if !a.IsValid() {
		return w
	}
	b := a.As16()
	for i := range w {
		w[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	return w
}

// host4 is ipvsadm's way to an IPv4 address: as inet_aton reads it, else by name.
func host4(s string, names Names) (netip.Addr, bool) {
	if a, ok := inetAton(s); ok {
		return a, true
	}
	return names.Host(s)
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// parseService reads host[:port], a numeric or named one of IPv4 or [IPv6]:port, as ipvsadm's
// parse_service does. port is -1 if there is none.
//
// A host of digits only is refused, and so is [IPv6] without a port; IPv6 without brackets is all
// address.
func parseService(s string, proto string, names Names) (addr netip.Addr, port int, ok bool) {
	if digits(s) {
		return netip.Addr{}, -1, false
	}
	portText, ported := "", false
	if inner, bracket := strings.CutPrefix(s, "["); bracket {
		var rest string
		if s, rest, ok = strings.Cut(inner, "]"); !ok {
			return netip.Addr{}, -1, false
		}
		if portText, ported = strings.CutPrefix(rest, ":"); !ported {
			return netip.Addr{}, -1, false
		}
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		// strrchr forgets a port that followed brackets: [192.0.2.1]:80 has none.
		i := strings.LastIndexByte(s, ':')
		if ported = i >= 0; ported {
			s, portText = s[:i], s[i+1:]
		}
		if addr, ok = host4(s, names); !ok {
			return netip.Addr{}, -1, false
		}
	}
	if !ported {
		return addr, -1, true
	}
	if n, ok := number(portText, 0, 65535); ok {
		return addr, n, true
	}
	if n, ok := names.Port(portText, proto); ok {
		return addr, int(n), true
	}
	return netip.Addr{}, -1, false
}

// schedFlags are the names of flags (-b): those of sh and mh, and of any scheduler.
var schedFlags = []struct {
	name, scheduler string
	flag            scheduler.Flags
}{
	{"sh-fallback", "sh", scheduler.Fallback}, {"sh-port", "sh", scheduler.Port},
	{"mh-fallback", "mh", scheduler.Fallback}, {"mh-port", "mh", scheduler.Port},
	{"flag-1", "", scheduler.Fallback}, {"flag-2", "", scheduler.Port}, {"flag-3", "", scheduler.Flag3},
}

// parseFlags reads names of flags for a scheduler.
func parseFlags(kind, s string) (flags uint8, err error) {
	for name := range strings.SplitSeq(s, ",") {
		if name == "" {
			continue // strtok(3) does not see empty names
		}
		known := false
		for _, f := range schedFlags {
			if f.name != name {
				continue
			}
			if f.scheduler != "" && f.scheduler != kind {
				return 0, fail("incompatible scheduler flag `%s'", name)
			}
			known, flags = true, flags|uint8(f.flag)
		}
		if !known {
			return 0, fail("invalid scheduler flag `%s'", name)
		}
	}
	return flags, nil
}

// flagNames are those that ipvsadm lists for the flags of a scheduler (print_sched_flags).
func flagNames(kind string, flags uint8) string {
	if kind != "sh" && kind != "mh" {
		kind = ""
	}
	var names []string
	for _, f := range schedFlags {
		if f.scheduler == kind && flags&uint8(f.flag) != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}
