package ipvsadm

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Names are what gethostbyname(3) and its like know.
type Names interface {
	// Host is the IPv4 address of a host.
	Host(name string) (netip.Addr, bool)
	// HostOf is the name of an address.
	HostOf(netip.Addr) (string, bool)
	// Port is the port of a named service, PortName the name of a port.
	Port(service string, proto string) (uint16, bool)
	PortName(port uint16, proto string) (string, bool)
}

// SystemNames are those of the system's resolver and /etc/services. Names of addresses are asked
// for once.
func SystemNames() Names {
	return &systemNames{services: "/etc/services", hosts: map[netip.Addr]string{}}
}

type systemNames struct {
	services string // a file
	once     sync.Once
	ports    map[servicePort]string
	numbers  map[serviceName]uint16
	hosts    map[netip.Addr]string // "": it has no name
}

type servicePort struct {
	port  uint16
	proto string
}

type serviceName struct {
	name  string
	proto string
}

// patience bounds how long one name is waited for.
const patience = 5 * time.Second

func (n *systemNames) Host(name string) (netip.Addr, bool) {
	// gethostbyname takes digits and dots for a malformed address, and asks nobody.
	if strings.Trim(name, "0123456789.") == "" || strings.ContainsAny(name, ":%") {
		return netip.Addr{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, false
	}
	return addrs[0].Unmap(), true
}

func (n *systemNames) HostOf(a netip.Addr) (string, bool) {
	name, known := n.hosts[a]
	if !known {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if names, err := net.DefaultResolver.LookupAddr(ctx, a.String()); err == nil && len(names) > 0 {
			name = strings.TrimSuffix(names[0], ".")
		}
		n.hosts[a] = name
	}
	return name, name != ""
}

func (n *systemNames) Port(service string, proto string) (uint16, bool) {
	n.once.Do(n.read)
	port, ok := n.numbers[serviceName{service, proto}]
	return port, ok
}

func (n *systemNames) PortName(port uint16, proto string) (string, bool) {
	n.once.Do(n.read)
	name, ok := n.ports[servicePort{port, proto}]
	return name, ok
}

// read reads services(5). Of several entries the first counts, as it does for getservbyname(3).
func (n *systemNames) read() {
	n.ports, n.numbers = map[servicePort]string{}, map[serviceName]uint16{}
	f, err := os.Open(n.services)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		text, protoName, _ := strings.Cut(fields[1], "/")
		proto := strings.ToUpper(protoName)
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || protocolNumbers[proto] == 0 {
			continue
		}
		if key := (servicePort{uint16(port), proto}); n.ports[key] == "" {
			n.ports[key] = fields[0]
		}
		for _, name := range append([]string{fields[0]}, fields[2:]...) {
			key := serviceName{name, proto}
			if _, taken := n.numbers[key]; !taken {
				n.numbers[key] = uint16(port)
			}
		}
	}
}
