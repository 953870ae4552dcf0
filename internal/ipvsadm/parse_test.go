package ipvsadm

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestServices are command lines and the services that they mean.
func TestServices(t *testing.T) {
	web := Service{Protocol: TCP, Addr: ip("192.0.2.1"), Port: 80, Scheduler: "wlc", Netmask: math.MaxUint32}
	with := func(change func(*Service)) Service {
		s := web
		change(&s)
		return s
	}
	persistent := func(seconds time.Duration) Service {
		return with(func(s *Service) { s.Persistent, s.Timeout = true, seconds*time.Second })
	}
	for line, want := range map[string]Service{
		"-A -t 192.0.2.1:80":                            web,
		"-A -t192.0.2.1:80":                             web,
		"-A -t=192.0.2.1:http":                          web,
		"-A --tcp-service=192.0.2.1:80 --scheduler=wlc": web,
		"--add-service --tcp-service 192.0.2.1:80":      web,
		"-At 192.0.2.1:80":                              web,
		"-A -t 192.0.513:0x50 --sort":                   {}, // hexadecimal ports there are not
		"-A -t 0300.0.0x2.1:80":                         web,
		"-A -t [192.0.2.1]:80 -p":                       with(func(s *Service) { s.Port, s.Persistent, s.Timeout = 0, true, 360*time.Second }),
		"-A -t 192.0.2.1:80 -p":                         persistent(360),
		"-A -pt 192.0.2.1:80":                           {}, // "t" is what -p says
		"-A -p60 -t 192.0.2.1:80":                       persistent(60),
		"-A -p -t 192.0.2.1:80":                         persistent(360),
		"-A -t 192.0.2.1:80 -p=2678400":                 persistent(2678400),
		"-A -u www.example:domain -o -s rr":             {Protocol: UDP, Addr: ip("192.0.2.80"), Port: 53, Scheduler: "rr", Netmask: math.MaxUint32, OnePacket: true},
		"-A --sctp-service 192.0.2.1:9 -s a-name-that-is-too-long": {Protocol: SCTP, Addr: ip("192.0.2.1"), Port: 9,
			Scheduler: "a-name-that-is-", Netmask: math.MaxUint32},
		"-A -t [2001:db8::1]:80":              {Protocol: TCP, Addr: ip("2001:db8::1"), Port: 80, Scheduler: "wlc", Netmask: 128},
		"-A -t [2001:db8::1]:80 -M 64x":       {Protocol: TCP, Addr: ip("2001:db8::1"), Port: 80, Scheduler: "wlc", Netmask: 64},
		"-A -M 64 -t [2001:db8::1]:80":        {Protocol: TCP, Addr: ip("2001:db8::1"), Port: 80, Scheduler: "wlc", Netmask: 128},
		"-A -t 192.0.2.1:80 -M 255.255.0.0":   with(func(s *Service) { s.Netmask = 0xffff0000 }),
		"-A -t 192.0.2.1:80 -M 24":            with(func(s *Service) { s.Netmask = 24 }),
		"-A -b sh-port,sh-fallback -s sh -f7": {Mark: 7, Scheduler: "sh", Flags: Flag1 | Flag2, Netmask: math.MaxUint32},
		"-E -f 4294967295 -6 -b flag-3 --pe sip": {Mark: math.MaxUint32, V6: true, Scheduler: "wlc", Flags: Flag3, Engine: "sip",
			Netmask: 128},
	} {
		q, err := parse(strings.Fields(line), knownNames{})
		if err == nil {
			err = q.complete()
		}
		if (err != nil) != (want == Service{}) {
			t.Errorf("%s: %v", line, err)
		} else if err == nil && q.service != want {
			t.Errorf("%s: %+v, want %+v", line, q.service, want)
		}
	}
}

// TestServers are command lines and the realservers that they mean.
func TestServers(t *testing.T) {
	for line, want := range map[string]Destination{
		"-a -t 192.0.2.1:80 -r 10.0.0.1":                        {ip("10.0.0.1"), 80, 1, 0, 0},
		"-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -g":                {ip("10.0.0.1"), 80, 1, 0, 0},
		"-a -r 10.0.0.1 -t 192.0.2.1:80":                        {ip("10.0.0.1"), 80, 1, 0, 0},
		"-e -t 192.0.2.1:80 -r 10.0.0.1:http -w0 -x9 -y=2":      {ip("10.0.0.1"), 80, 0, 9, 2},
		"-d -t 192.0.2.1:80 -r 10.0.0.1":                        {ip("10.0.0.1"), 80, 1, 0, 0},
		"-d -t 192.0.2.1:80 -r 10.0.0.1:8080":                   {ip("10.0.0.1"), 8080, 1, 0, 0},
		"-d -r 10.0.0.1 -t 192.0.2.1:80":                        {ip("10.0.0.1"), 0, 1, 0, 0},
		"-a -f 7 -r 10.0.0.1:8080":                              {ip("10.0.0.1"), 8080, 1, 0, 0},
		"-a -f 7 -6 -r [fd00::1]:8080":                          {ip("fd00::1"), 8080, 1, 0, 0},
		"-a -f 7 -6 -r fd00::1 -w 2147483647":                   {ip("fd00::1"), 0, math.MaxInt32, 0, 0},
		"--add-server --fwmark-service=7 --real-server 10.0.65": {ip("10.0.0.65"), 0, 1, 0, 0},
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
