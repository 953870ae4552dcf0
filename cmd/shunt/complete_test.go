package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/api"
)

// running is a director that answers about its services only, and returns its socket.
func running(t *testing.T, services []api.Service) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shunt") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "shunt.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(services) })
	s := &http.Server{Handler: mux}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return socket
}

// Shells are offered schedulers, the services and realservers of the running director, and the
// words that flags take; nothing without a director.
func TestComplete(t *testing.T) {
	socket := running(t, []api.Service{
		{Name: "web", Address: netip.MustParseAddrPort("192.168.10.100:80"), Realservers: []api.Realserver{{Address: netip.MustParseAddrPort("10.10.0.12:80")}, {Address: netip.MustParseAddrPort("10.10.0.11:80")}}},
		{Name: "TCP [2001:db8::1]:80", Address: netip.MustParseAddrPort("[2001:db8::1]:80"), Realservers: []api.Realserver{{Address: netip.MustParseAddrPort("[fd00:10::11]:80")}}},
		{Name: "dns\x1b[31m", Address: netip.MustParseAddrPort("192.168.10.100:53"), Realservers: []api.Realserver{{Address: netip.MustParseAddrPort("10.10.0.11:53")}}},
	})
	t.Setenv(socketVariable, socket)
	rips := "10.10.0.11\n10.10.0.12\nfd00:10::11\n"
	vips := "192.168.10.100:53\tdns[31m\n192.168.10.100:80\tweb\n[2001:db8::1]:80\n"
	for _, c := range []struct{ words, want string }{
		{"drain ", rips},
		{"enable ", rips},
		{"drain 10.10.0.11 ", ""},
		{"drain 10.10.0.11 --service ", vips},
		{"conns --realserver ", rips},
		{"conns --service ", vips},
		{"conns --protocol ", "TCP\nUDP\nSCTP\n"},
		{"conns move --to ", rips},
		{"conns kill --realserver ", rips},
		{"ipvsadm -A -t 192.168.10.1:80 -s ", "rr\nwrr\nlc\nwlc\nlblc\nlblcr\ndh\nsh\nsed\nnq\nfo\novf\nmh\ntwos\n"},
		{"ipvsadm -d -t ", vips},
		{"ipvsadm -d -t 192.168.10.100:80 -r ", "10.10.0.11:53\n10.10.0.11:80\n10.10.0.12:80\n[fd00:10::11]:80\n"},
		{"lab --topology ", "one-arm\ntwo-arm\n"},
		{"realserver apply --persist=", "auto\nnetworkd\nifupdown\nsystemd\n"},
		{"drain --socket /no/such.sock ", ""},
	} {
		t.Run(c.words, func(t *testing.T) {
			var out strings.Builder
			root := rootCmd()
			root.SetOut(&out)
			root.SetErr(new(strings.Builder))
			root.SetArgs(append([]string{"__complete"}, strings.Split(c.words, " ")...))
			if err := root.Execute(); err != nil {
				t.Fatal(err)
			}
			if got, _, ok := strings.Cut(out.String(), ":4\n"); !ok || got != c.want {
				t.Errorf("offered\n%swant\n%s", out.String(), c.want)
			}
		})
	}
}
