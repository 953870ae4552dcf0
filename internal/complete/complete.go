// Package complete finds what a shell may offer for the values of flags: what the running director
// knows, and what ipvsadm's options take. Without a director it finds nothing: a shell cannot be
// told of errors.
package complete

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"shunt/api"
	"shunt/scheduler"
)

// patience bounds how long a shell waits for the director.
const patience = time.Second

func services(socket string) []api.Service {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := api.NewClient(socket).Services(ctx)
	if err != nil {
		return nil
	}
	return all
}

// Services lists VIP:port of the services of the director at socket. Behind a tab stands the
// service's name, which shells show and do not insert.
func Services(socket string) (out []string) {
	for _, s := range services(socket) {
		name := strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return -1
			}
			return r
		}, s.Name)
		at := s.Address.String()
		if name == "" || strings.HasSuffix(name, at) {
			out = append(out, at)
		} else {
			out = append(out, at+"\t"+name)
		}
	}
	return compact(out)
}

// Realservers lists the addresses of the realservers.
func Realservers(socket string) []string {
	return realservers(socket, func(at netip.AddrPort) string { return at.Addr().String() })
}

// RealserverPorts lists RIP:port of the realservers.
func RealserverPorts(socket string) []string { return realservers(socket, netip.AddrPort.String) }

func realservers(socket string, name func(netip.AddrPort) string) (out []string) {
	for _, s := range services(socket) {
		for _, r := range s.Realservers {
			out = append(out, name(r.Address))
		}
	}
	return compact(out)
}

func compact(in []string) []string {
	slices.Sort(in)
	return slices.Compact(in)
}

// Ipvsadm lists what may stand behind the words of a command line of ipvsadm.
func Ipvsadm(socket string, before []string) []string {
	if len(before) == 0 {
		return nil
	}
	switch before[len(before)-1] {
	case "-s", "--scheduler":
		return scheduler.Names()
	case "-t", "-u", "--tcp-service", "--udp-service", "--sctp-service":
		return Services(socket)
	case "-r", "--real-server":
		return RealserverPorts(socket)
	}
	return nil
}
