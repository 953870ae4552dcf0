package ipvsadm

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"shunt/api"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestServices are command lines and the services that they mean.
func TestServices(t *testing.T) {
	web := api.VirtualService{Protocol: TCP, Address: ip("192.0.2.1"), Port: 80, Scheduler: "wlc"}
	with := func(change func(*api.VirtualService)) api.VirtualService {
		s := web
		change(&s)
		return s
	}
	persistent := func(seconds float64) api.VirtualService {
		return with(func(s *api.VirtualService) { s.Persistence = seconds })
	}
	for line, want := range map[string]api.VirtualService{
		"-A -t 192.0.2.1:80":                            web,
		"-A -t192.0.2.1:80":                             web,
		"-A -t=192.0.2.1:http":                          web,
		"-A --tcp-service=192.0.2.1:80 --scheduler=wlc": web,
		"--add-service --tcp-service 192.0.2.1:80":      web,
		"-At 192.0.2.1:80":                              web,
		"-A -t 192.0.513:0x50 --sort":                   {}, // hexadecimal ports there are not
		"-A -t 0300.0.0x2.1:80":                         web,
		"-A -t [192.0.2.1]:80 -p":                       with(func(s *api.VirtualService) { s.Port, s.Persistence = 0, 360 }),
		"-A -t 192.0.2.1:80 -p":                         persistent(360),
		"-A -pt 192.0.2.1:80":                           {}, // "t" is what -p says
		"-A -p60 -t 192.0.2.1:80":                       persistent(60),
		"-A -p -t 192.0.2.1:80":                         persistent(360),
		"-A -t 192.0.2.1:80 -p=2678400":                 persistent(2678400),
		"-A -u www.example:domain -o -s rr":             {Protocol: UDP, Address: ip("192.0.2.80"), Port: 53, Scheduler: "rr", OnePacket: true},
		"-A --sctp-service 192.0.2.1:9 -s a-name-that-is-too-long": {Protocol: SCTP, Address: ip("192.0.2.1"), Port: 9,
			Scheduler: "a-name-that-is-"},
		"-A -t [2001:db8::1]:80":                    {Protocol: TCP, Address: ip("2001:db8::1"), Port: 80, Scheduler: "wlc"},
		"-A -p9 -t [2001:db8::1]:80 -M 64x":         {Protocol: TCP, Address: ip("2001:db8::1"), Port: 80, Scheduler: "wlc", Persistence: 9, MaskBits: 64},
		"-A -M 64 -t [2001:db8::1]:80":              {Protocol: TCP, Address: ip("2001:db8::1"), Port: 80, Scheduler: "wlc"},
		"-A -t 192.0.2.1:80 -M 255.255.0.0":         web, // it means nothing without -p
		"-A -t 192.0.2.1:80 -p9 -M 255.255.0.0":     with(func(s *api.VirtualService) { s.Persistence, s.MaskBits = 9, 16 }),
		"-A -t 192.0.2.1:80 -p9 -M 255.255.255.255": persistent(9),
		"-A -t 192.0.2.1:80 -p9 -M 0.0.0.0":         with(func(s *api.VirtualService) { s.Persistence, s.Netmask = 9, ip("0.0.0.0") }),
		"-A -t 192.0.2.1:80 -p9 -M 24":              with(func(s *api.VirtualService) { s.Persistence, s.Netmask = 9, ip("0.0.0.24") }),
		"-A -b sh-port,sh-fallback -s sh -f7":       {Mark: 7, Scheduler: "sh", Flags: 3},
		"-E -f 4294967295 -6 -b flag-3 --pe sip":    {Mark: math.MaxUint32, V6: true, Scheduler: "wlc", Flags: 4, Engine: "sip"},
	} {
		q, err := parse(strings.Fields(line), knownNames{})
		if err == nil {
			err = q.complete()
		}
		if (err != nil) != (want == api.VirtualService{}) {
			t.Errorf("%s: %v", line, err)
		} else if err == nil && q.service != want {
			t.Errorf("%s: %+v, want %+v", line, q.service, want)
		}
	}
}

// TestServers are command lines and the realservers that they mean.
func TestServers(t *testing.T) {
	server := func(addr string, port uint16, weight int32, upper, lower int32) api.VirtualServer {
		return api.VirtualServer{Address: ip(addr), Port: port, Weight: weight, Upper: upper, Lower: lower}
	}
	for line, want := range map[string]api.VirtualServer{
		"-a -t 192.0.2.1:80 -r 10.0.0.1":                        server("10.0.0.1", 80, 1, 0, 0),
		"-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -g":                server("10.0.0.1", 80, 1, 0, 0),
		"-a -r 10.0.0.1 -t 192.0.2.1:80":                        server("10.0.0.1", 80, 1, 0, 0),
		"-e -t 192.0.2.1:80 -r 10.0.0.1:http -w0 -x9 -y=2":      server("10.0.0.1", 80, 0, 9, 2),
		"-d -t 192.0.2.1:80 -r 10.0.0.1":                        server("10.0.0.1", 80, 1, 0, 0),
		"-d -t 192.0.2.1:80 -r 10.0.0.1:8080":                   server("10.0.0.1", 8080, 1, 0, 0),
		"-d -r 10.0.0.1 -t 192.0.2.1:80":                        server("10.0.0.1", 0, 1, 0, 0),
		"-a -f 7 -r 10.0.0.1:8080":                              server("10.0.0.1", 8080, 1, 0, 0),
		"-a -f 7 -6 -r [fd00::1]:8080":                          server("fd00::1", 8080, 1, 0, 0),
		"-a -f 7 -6 -r fd00::1 -w 2147483647":                   server("fd00::1", 0, math.MaxInt32, 0, 0),
		"--add-server --fwmark-service=7 --real-server 10.0.65": server("10.0.0.65", 0, 1, 0, 0),
	} {
		q, err := parse(strings.Fields(line), knownNames{})
		if err == nil {
			err = q.complete()
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		} else if q.server != want {
			t.Errorf("%s: %+v, want %+v", line, q.server, want)
		}
	}
}

func TestInetAton(t *testing.T) {
	for s, want := range map[string]string{
		"1.2.3.4": "1.2.3.4", "1.2.3": "1.2.0.3", "1.2": "1.0.0.2", "24": "0.0.0.24", "0x7f000001": "127.0.0.1", "1.2.65535": "1.2.255.255",
		"010.0.0.010": "8.0.0.8", "1.2.3.4 or so": "1.2.3.4", "0": "0.0.0.0", "4294967295": "255.255.255.255",
		"1.2.3.4.5": "", "1.2.3.256": "", "1.2.65536": "", "256.1": "", "4294967296": "", "": "", "1..2": "", "09": "", "a": "", "-1": "", "0x": "",
	} {
		a, ok := inetAton(s)
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("%q: %v, want %q", s, a, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for s, want := range map[string]int64{" 7": 7, "+7": 7, "-7": -7, "007": 7, "\t\n7": 7} {
		if n, ok := strtol(s); !ok || n != want {
			t.Errorf("strtol(%q) is %d", s, n)
		}
	}
	for _, s := range []string{"", " ", "7 ", "0x7", "1_0", "9223372036854775808", "--7"} {
		if n, ok := strtol(s); ok {
			t.Errorf("strtol(%q) is %d", s, n)
		}
	}
	for s, want := range map[string]int64{"64": 64, " 64x": 64, "-3": -3, "x": 0, "": 0, "-": 0, "+": 0, "6-4": 6} {
		if n := atoi(s); n != want {
			t.Errorf("atoi(%q) is %d", s, n)
		}
	}
}
