package forwarder_test

import (
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/scheduler"
)

// errUsage wraps the errors of command lines that ipvsadm itself refuses.
var errUsage = errors.New("usage")

// options is a command line of ipvsadm, read.
type options struct {
	command byte // A E D a e d C R Z, or s for --set
	service forwarder.Service
	named   bool // a service was named
	real    *forwarder.Destination
	timeout [3]time.Duration
}

var longOptions = map[string]string{
	"--add-service": "-A", "--edit-service": "-E", "--delete-service": "-D", "--add-server": "-a", "--edit-server": "-e",
	"--delete-server": "-d", "--clear": "-C", "--restore": "-R", "--zero": "-Z", "--tcp-service": "-t", "--udp-service": "-u",
	"--fwmark-service": "-f", "--scheduler": "-s", "--persistent": "-p", "--netmask": "-M", "--sched-flags": "-b", "--ops": "-o",
	"--real-server": "-r", "--gatewaying": "-g", "--ipip": "-i", "--masquerading": "-m", "--weight": "-w",
	"--u-threshold": "-x", "--l-threshold": "-y",
}

// notModelled are options of ipvsadm that shunt has nothing for.
var notModelled = []string{"-h", "--help", "-v", "--version", "--list", "--save", "--pe", "--tun-type", "--start-daemon", "--stop-daemon"}

// parse reads a command line.
func (d *director) parse(args []string) (o options, err error) {
	s := &o.service
	s.Scheduler = "wlc"
	var (
		real, mask, flags, method string
		port                      uint16
		ofService                 bool
	)
	dest := forwarder.Destination{Weight: 1}
	for i := 0; i < len(args); i++ {
		opt := args[i]
		if short := longOptions[opt]; short != "" {
			opt = short
		}
		value := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			err = errUsage
			return "0"
		}
		number := func(limit int) int {
			n, e := strconv.Atoi(value())
			if e != nil || n < 0 || n > limit {
				err = errUsage
			}
			return n
		}
		once := func(again bool) {
			if again {
				err = errUsage
			}
		}
		proto := frame.Proto(0)
		switch opt {
		case "-A", "-E", "-D", "-a", "-e", "-d", "-C", "-Z", "--set":
			once(o.command != 0)
			o.command = opt[1]
			if opt != "--set" {
				break
			}
			o.command = 's'
			for j := range o.timeout {
				o.timeout[j] = time.Duration(number(1<<31/1000)) * time.Second
			}
		case "-t":
			proto = frame.TCP
		case "-u":
			proto = frame.UDP
		case "--sctp-service":
			proto = frame.SCTP
		case "-f":
			once(o.named)
			s.Mark, o.named = uint32(number(1<<32-1)), true
			s.V6 = i+1 < len(args) && args[i+1] == "-6"
			s.Matches = d.matches(s.Mark, s.V6)
		case "-6":
			once(s.Mark == 0)
		case "-s":
			s.Scheduler, ofService = value(), true
		case "-p":
			ofService = true
			s.Persistence = 360 * time.Second
			if i+1 < len(args) && args[i+1][0] != '-' {
				if s.Persistence = time.Duration(number(86400*31)) * time.Second; s.Persistence == 0 {
					err = errUsage
				}
			}
		case "-M":
			mask = value()
		case "-b":
			flags = value()
		case "-o":
			s.OnePacket = true
		case "-r":
			real = value()
		case "-g", "-m", "-i":
			once(method != "")
			method = opt
		case "-w":
			dest.Weight = int32(number(1<<31 - 1))
		case "-x":
			dest.Upper = int32(number(1<<31 - 1))
		case "-y":
			dest.Lower = int32(number(1<<31 - 1))
		default:
			if slices.Contains(notModelled, opt) || strings.HasPrefix(opt, "-L") || strings.HasPrefix(opt, "-l") || strings.HasPrefix(opt, "-S") {
				return o, fmt.Errorf("option %s: %w", opt, errListing)
			}
			err = fmt.Errorf("option %s: %w", opt, errUsage)
		}
		if proto != 0 {
			once(o.named)
			var a netip.Addr
			a, port = endpoint(value(), &err)
			m := forwarder.Match{Addr: a, Proto: proto, First: port, Last: port}
			if port == 0 {
				m.Last = 65535
			}
			s.Matches, s.V6, o.named = []forwarder.Match{m}, a.Is6(), true
		}
	}
	s.Options.Flags = schedulerFlags(flags, s.Scheduler, &err)
	if mask != "" {
		s.MaskBits = maskBits(mask, &err)
	}
	if real != "" {
		dest.Addr, dest.Port = endpoint(real, &err)
		if s.Mark == 0 && (method != "-m" || dest.Port == 0) {
			dest.Port = port // neither direct routing nor a tunnel can change the port
		}
		if dest.Addr.Is4() && netip.MustParsePrefix("10.88.0.0/24").Contains(dest.Addr) {
			dest.Leg = vlanLeg
		}
		o.real = &dest
	}
	server := strings.IndexByte("aed", o.command) >= 0
	switch {
	case err != nil:
	case o.command == 0:
		err = fmt.Errorf("no command: %w", errUsage)
	case strings.IndexByte("AEDaed", o.command) >= 0 != o.named && o.command != 'Z', server && (o.real == nil || ofService), !server && o.real != nil:
		err = errUsage
	case strings.IndexByte("AE", o.command) >= 0 && s.Mark == 0 && (port == 0 && s.Persistence == 0 || s.OnePacket && s.Matches[0].Proto != frame.UDP):
		err = errUsage
	}
	return o, err
}

// endpoint reads ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT.
func endpoint(s string, err *error) (netip.Addr, uint16) {
	if a, e := netip.ParseAddr(s); e == nil && a.Is4() {
		return a, 0
	}
	host, port, e := net.SplitHostPort(s)
	if e == nil {
		var n int
		if n, e = strconv.Atoi(port); e != nil {
			n, e = net.LookupPort("tcp", port)
		}
		a, e2 := netip.ParseAddr(host)
		if e == nil && e2 == nil && n >= 0 && n <= 65535 {
			return a, uint16(n)
		}
	}
	*err = fmt.Errorf("address %q: %w", s, errUsage)
	return netip.Addr{}, 0
}

// schedulerFlags reads the flags of a scheduler: sh-port is one of sh only.
func schedulerFlags(list, scheduling string, err *error) (f scheduler.Flags) {
	if list == "" {
		return 0
	}
	for _, name := range strings.Split(list, ",") {
		kind, _, _ := strings.Cut(name, "-")
		i := slices.Index([]string{"fallback", "port", "1", "2", "3"}, strings.TrimPrefix(name, kind+"-"))
		if i < 0 || kind != "flag" && kind != scheduling || (kind == "flag") != (i > 1) {
			*err = errUsage
			continue
		}
		f |= []scheduler.Flags{scheduler.Fallback, scheduler.Port, scheduler.Fallback, scheduler.Port, scheduler.Flag3}[i]
	}
	return f
}

// maskBits reads 255.255.0.0, or the length of an IPv6 prefix.
func maskBits(s string, err *error) int {
	if n, e := strconv.Atoi(s); e == nil {
		return n
	}
	a, e := netip.ParseAddr(s)
	if e != nil || !a.Is4() {
		*err = errUsage
		return 0
	}
	b := a.As4()
	return bits.OnesCount32(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
}

// markRule is what iptables -j MARK does: packets to the prefix, of the protocol and one of the
// ports, get the mark.
type markRule struct {
	prefix netip.Prefix
	proto  frame.Proto // 0 is any
	ports  []uint16    // none is any
	mark   uint32
}

// parseMark reads a line of iptables.
func parseMark(args []string) markRule {
	var r markRule
	for i := range len(args) - 1 {
		switch v := args[i+1]; args[i] {
		case "-d":
			if !strings.Contains(v, "/") {
				v += "/32"
			}
			r.prefix = netip.MustParsePrefix(v)
		case "-p":
			r.proto = frame.Proto(protocols[v])
		case "--dport", "--dports":
			for _, p := range strings.Split(v, ",") {
				n, _ := strconv.Atoi(p)
				r.ports = append(r.ports, uint16(n))
			}
		case "--set-mark":
			n, _ := strconv.Atoi(v)
			r.mark = uint32(n)
		}
	}
	return r
}

// matches are those of the service of a mark. A mark that no rule gives gets a place where no
// packet goes.
func (d *director) matches(mark uint32, v6 bool) (out []forwarder.Match) {
	for _, r := range d.marks {
		if r.mark != mark {
			continue
		}
		for a := r.prefix.Addr(); r.prefix.Contains(a); a = a.Next() {
			for _, proto := range []frame.Proto{frame.TCP, frame.UDP, frame.SCTP} {
				m := forwarder.Match{Addr: a, Proto: proto, Last: 65535}
				if r.proto != 0 && r.proto != proto {
					continue
				}
				if len(r.ports) == 0 {
					out = append(out, m)
				}
				for _, p := range r.ports {
					m.First, m.Last = p, p
					out = append(out, m)
				}
			}
		}
	}
	if len(out) == 0 {
		a := addr("198.18.0.1")
		if v6 {
			a = addr("2001:db8:dead::1")
		}
		out = []forwarder.Match{{Addr: a, Proto: frame.TCP, First: 1, Last: 1}}
	}
	return out
}
