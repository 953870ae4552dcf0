package ipvsadm

import (
	"bufio"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"shunt/api"
)

func TestLargeNumbers(t *testing.T) {
	for n, want := range map[uint64][2]string{
		0:                    {"        0", "        0"},
		99999999:             {" 99999999", " 99999999"},
		100000000:            {"  100000K", " 100000000"},
		999999999:            {"  999999K", " 999999999"},
		1000000000:           {"    1000M", " 1000000000"},
		99999999999:          {"   99999M", " 99999999999"},
		100000000000:         {"     100G", " 100000000000"},
		99999999999999:       {"   99999G", " 99999999999999"},
		100000000000000:      {"     100T", " 100000000000000"},
		18446744073709551615: {"18446744T", " 18446744073709551615"},
	} {
		for i, f := range []format{{}, {exact: true}} {
			var out strings.Builder
			r := &runner{out: bufio.NewWriter(&out)}
			r.large(n, f)
			r.out.Flush()
			if out.String() != want[i] {
				t.Errorf("%d is %q, want %q", n, out.String(), want[i])
			}
		}
	}
}

// longNames have names that do not fit.
type longNames struct{ knownNames }

func (longNames) HostOf(netip.Addr) (string, bool) {
	return "a-host.in-a-department.of-a-company.of-which.the-name-is-long.example", true
}

func TestLongNames(t *testing.T) {
	k := newKernel()
	for _, line := range []string{
		"-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.0.0.1",
		"-A -t [2001:db8::1]:80 -s rr", "-a -t [2001:db8::1]:80 -r [::192.0.2.1]:80",
	} {
		if rc, _, errs := run(k, line, ""); rc != 0 {
			t.Fatal(line, errs)
		}
	}
	var out strings.Builder
	RunPlain([]string{"-L"}, nil, &out, &out, k, longNames{})
	want := "IP Virtual Server version 1.2.1 (size=4096)\n" +
		"Prot LocalAddress:Port Scheduler Flags\n" +
		"  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n" +
		"TCP  a-host.in-a-department.of-a- rr\n" +
		"  -> a-host.in-a-department.of-a- Route   1      0          0         \n" +
		"TCP  [a-host.in-a-department.of-a-company.of-which.the-name-is-l rr\n" +
		"  -> [a-host.in-a-department.of-a-company.of-which.the-name-is-l Route   1      0          0         \n"
	if out.String() != want {
		t.Errorf("\n%s, want\n%s", out.String(), want)
	}
	if _, got, _ := run(k, "-Sn", ""); !strings.Contains(got, " -r [::192.0.2.1]:80 ") {
		t.Error(got)
	}
}

// TestOrder has addresses of which the differences do not fit into an int; what comes out was seen
// of ipvsadm.
func TestOrder(t *testing.T) {
	var servers []api.TableServer
	for _, a := range []string{"10.77.0.43", "192.0.2.100", "127.0.0.1", "10.77.0.19", "10.77.0.11"} {
		servers = append(servers, api.TableServer{VirtualServer: api.VirtualServer{Address: ip(a)}})
	}
	sortAs(servers, compareServers)
	var got []string
	for _, d := range servers {
		got = append(got, d.Address.String())
	}
	if want := "192.0.2.100 10.77.0.11 10.77.0.19 10.77.0.43 127.0.0.1"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", got, want)
	}
	if r := compareAddrs(ip("2001:db8::1"), ip("2001:db8::2")); r >= 0 {
		t.Error(r)
	}
	if r := compareAddrs(ip("fd00::1"), ip("2001:db8::2")); r >= 0 { // more than 2^31 apart
		t.Error(r)
	}
}

// TestZeroAddress lists what has no address, which the kernel never shows.
func TestZeroAddress(t *testing.T) {
	k := newKernel()
	k.services = []api.TableService{{Servers: make([]api.TableServer, 2)}, {VirtualService: api.VirtualService{Persistence: 9}}}
	k.conns = make([]api.Connection, 1)
	if _, out, errs := run(k, "-Ln", ""); !strings.Contains(out, "-> 0.0.0.0:0 ") || errs != "" {
		t.Errorf("%s%s", out, errs)
	}
	if _, out, errs := run(k, "-Lnc", ""); !strings.Contains(out, " 0.0.0.0:0 ") || errs != "" {
		t.Errorf("%s%s", out, errs)
	}
	if err := k.writeProc(t.TempDir()); err != nil {
		t.Error(err)
	}
}

func TestReadLine(t *testing.T) {
	for in, want := range map[string][]string{
		"":                            nil,
		"-A -t x\n-C\n":               {"-A -t x", "-C"},
		"\n\n  -A\t-t \r\n\n":         {"", "", "-A -t", ""},
		"ipvsadm -A\n-a ipvsadm -r\n": {"-A", "-a -r"},
		"-C":                          {"-C"},
		"-C ":                         {"-C"},
		"-C  ":                        nil, // ipvsadm forgets it
		"-C\n  ":                      {"-C"},
		"ipvsadm":                     nil,
		"# a comment\n":               {"# a comment"},
	} {
		r := bufio.NewReader(strings.NewReader(in))
		var got []string
		for {
			words, ok := readLine(r)
			if !ok {
				break
			}
			got = append(got, strings.Join(words, " "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestRestore has the status of the last line, and the ends in the middle.
func TestRestore(t *testing.T) {
	for _, tt := range []struct {
		in, out, errs string
		status        int
		saved         string // afterwards
	}{
		{"-A -t 192.0.2.1:80 -s rr\n-D -t 192.0.2.2:80\n", "", "No such service\n", 255, "-A -t 192.0.2.1:80 -s rr\n"},
		{"-D -t 192.0.2.2:80\n-A -t 192.0.2.1:80 -s rr\n", "", "No such service\n", 0, "-A -t 192.0.2.1:80 -s rr\n"},
		{"-A -t 192.0.2.1:80 -s rr\n-L -Q\n-A -f 1 -s rr\n", "", "-Q: unknown option\n", 0, "-A -t 192.0.2.1:80 -s rr\n-A -f 1 -s rr\n"},
		{"-A -t 192.0.2.1:80 -s rr\n-L -Q\n", "", "-Q: unknown option\n", 255, "-A -t 192.0.2.1:80 -s rr\n"},
		{"-A -t 192.0.2.1:80 -s rr\n-A -x\n-A -f 1 -s rr\n", "", "-x: missing argument\n", 0, "-A -t 192.0.2.1:80 -s rr\n-A -f 1 -s rr\n"},
		{"-A -t 192.0.2.1:80 -s rr\n-A -x 1\n-A -f 1 -s rr\n", "", "You need to supply the 'service-address' option for the 'add-service' command\n", 2,
			"-A -t 192.0.2.1:80 -s rr\n"},
		{"-A -f 1 -s rr\n-R\n-C\n", "", hint + "\n", 255, "-A -f 1 -s rr\n"},
		{"-A -f 1 -s rr\n-v\n-C\n", versionText + "\n", "", 0, "-A -f 1 -s rr\n"},
		{"-L -f 1\n-C\n", "", "No such service\n", 1, ""},
		{"-A -f 1 -s rr\n-S\n-C\n", "-A -f 1 -s rr\n", "", 0, ""},
	} {
		k := newKernel()
		status, out, errs := run(k, "-R", tt.in)
		_, saved, _ := run(k, "-S -n", "")
		if status != tt.status || out != tt.out || errs != tt.errs || saved != tt.saved {
			t.Errorf("%q: status %d, %q, %q, saved %q; want %d, %q, %q, %q", tt.in, status, out, errs, saved, tt.status, tt.out, tt.errs, tt.saved)
		}
	}
}

func TestServicesFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "services")
	text := "# names\nhttp\t80/tcp\twww # the web\nhttp2 80/tcp www\ndomain 53/udp\n\nbroken\nodd x/tcp\nbig 70000/tcp\nipx 213/ipx\nsip 5060/sctp\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &systemNames{services: file}
	for _, tt := range []struct {
		port  uint16
		proto string
		name  string
	}{{80, TCP, "http"}, {80, UDP, ""}, {53, UDP, "domain"}, {53, TCP, ""}, {5060, SCTP, "sip"}, {213, TCP, ""}, {0, "", ""}} {
		if name, ok := n.PortName(tt.port, tt.proto); name != tt.name || ok != (tt.name != "") {
			t.Errorf("port %d of %s is %q", tt.port, tt.proto, name)
		}
	}
	if port, ok := n.Port("www", TCP); !ok || port != 80 {
		t.Error(port, ok)
	}
	if port, ok := n.Port("www", UDP); ok {
		t.Error(port)
	}
	if _, ok := n.Host("300.1.1.1"); ok { // and nobody was asked
		t.Error("300.1.1.1 is an address")
	}
	if _, ok := (&systemNames{services: "/nonexistent"}).PortName(80, TCP); ok {
		t.Error("a name without a file")
	}
}
