package ipvsadm

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"shunt/api"
)

// run runs a command line against a director. A word ” is empty.
func run(d Director, line, stdin string) (status int, out, errs string) {
	args := strings.Fields(line)
	for i := range args {
		if args[i] == "''" {
			args[i] = ""
		}
	}
	var o, e strings.Builder
	status = RunPlain(args, strings.NewReader(stdin), &o, &e, d, knownNames{})
	return status, o.String(), e.String()
}

// table is a kernel with a service that has a realserver.
func table(t *testing.T) *kernel {
	k := newKernel()
	for _, line := range []string{"-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -g -w 3 -x 9 -y 2", "-A -f 7 -s rr"} {
		if rc, _, errs := run(k, line, ""); rc != 0 {
			t.Fatal(line, errs)
		}
	}
	return k
}

const hint = "Try `ipvsadm -h' or 'ipvsadm --help' for more information."

// TestMessages has every message of ipvsadm at least once.
func TestMessages(t *testing.T) {
	for _, tt := range []struct {
		line   string
		status int
		text   string // of standard error, without the end of the line
	}{
		// The command line as such.
		{"-n", 255, hint},
		{"-Q", 255, hint},
		{"--nonsense", 255, hint},
		{"-t 192.0.2.1:80 -A", 255, hint},
		{"word", 255, hint},
		{"-- -L", 255, hint},
		{"--start-daemon", 255, hint},
		{"-A=1", 255, hint},
		{"--list=1", 255, hint},
		{"-L -Q", 255, "-Q: unknown option"},
		{"-LQ", 255, "-LQ: unknown option"},
		{"-L --nonsense=3", 255, "--nonsense=3: unknown option"},
		{"-A -t", 255, "-t: missing argument"},
		{"-A --tcp-service", 255, "--tcp-service: missing argument"},
		{"-L --numeric=yes", 255, "--numeric=yes: option does not take an argument"},
		{"-L -n=yes", 255, "-n=yes: option does not take an argument"},
		{"-A -E", 2, "invalid option `-E'"},
		{"-AE", 2, "invalid option `-AE'"},
		{"-L --start-daemon master", 2, "invalid option `master'"},
		{"-A -t 192.0.2.2:80 -h", 2, "invalid option `-h'"},
		{"-L -n --numeric", 2, "multiple 'numeric' options specified"},
		{"-A -t 192.0.2.2:80 -u 192.0.2.2:80", 2, "multiple 'service-address' options specified"},
		{"-A", 2, "You need to supply the 'service-address' option for the 'add-service' command"},
		{"-a -t 192.0.2.1:80", 2, "You need to supply the 'real-server' option for the 'add-server' command"},
		{"-d -t 192.0.2.1:80 -r 10.0.0.1 -w 3", 2, "Illegal 'weight' option with the 'delete-server' command"},
		{"-C -n", 2, "Illegal 'numeric' option with the 'flush' command"},
		{"-S -c", 2, "Illegal 'connection' option with the 'save' command"},
		{"-R --timeout", 2, "Illegal 'timeout' option with the 'restore' command"},
		{"-L -c --daemon", 2, "The option 'daemon' conflicts with the 'connection' option in the 'list' command"},
		{"-L -c --stats", 2, "options conflicts in the list command"},
		{"-L --timeout --persistent-conn", 2, "options conflicts in the list command"},
		{"-L extra", 2, "unexpected argument extra"},
		{"-L ''", 2, "unexpected argument "},
		{"-L -", 2, "unexpected argument -"},
		{"-L -- -n", 2, "unexpected argument -n"},

		// Services.
		{"-A -t 192.0.2.2", 2, "Zero port specified for non-persistent service"},
		{"-A -t 80", 2, "illegal virtual server address[:port] specified"},
		{"-A -t [2001:db8::1]", 2, "illegal virtual server address[:port] specified"},
		{"-A -t [2001:db8::1:80", 2, "illegal virtual server address[:port] specified"},
		{"-A -t fe80::1%eth0", 2, "illegal virtual server address[:port] specified"},
		{"-A -t 192.0.2.2:gopher", 2, "illegal virtual server address[:port] specified"},
		{"-A --tcp-service=", 2, "illegal virtual server address[:port] specified"},
		{"-A --sctp-service 192.0.2.2:http", 2, "illegal virtual server address[:port] specified"},
		{"-A -f 0", 2, "invalid fwmark value `0' specified"},
		{"-A -f -1", 2, "invalid fwmark value `-1' specified"},
		{"-A -f 0x7", 2, "invalid fwmark value `0x7' specified"},
		{"-A -6 -f 3", 2, "-6 used before -f\n"},
		{"-A -t 192.0.2.2:80 -p 0", 2, "invalid timeout value `0' specified"},
		{"-A -t 192.0.2.2:80 -p 2678401", 2, "invalid timeout value `2678401' specified"},
		{"-A -t 192.0.2.2:80 -p 9 -M nowhere.example", 2, "illegal virtual server persistent mask specified"},
		{"-A -t [2001:db8::1]:80 -p 9 -M 129", 2, "illegal ipv6 netmask specified"},
		{"-A -t [2001:db8::100]:81 -s rr -p 60 -M 255.255.255.0", 2, "illegal ipv6 netmask specified"},
		{"-A -t [2001:db8::100]:81 -s rr -p 60 -M 129", 2, "illegal ipv6 netmask specified"},
		{"-A -t [2001:db8::100]:81 -s rr -M 129 -p 60", 2, "illegal ipv6 netmask specified"},
		{"-A -t [2001:db8::1]:80 -p 9 -M 0", 2, "illegal ipv6 netmask specified"},
		{"-A -t [2001:db8::1]:80 -p 9 -M -1", 2, "illegal ipv6 netmask specified"},
		{"-A -t [2001:db8::1]:80 -p 9 -M 4294967297", 2, "illegal ipv6 netmask specified"},
		{"-A -f 3 -6 -p 9 -M 129", 2, "illegal ipv6 netmask specified"},
		{"-A -f 3 -p 9 -M 2001:db8::", 2, "illegal virtual server persistent mask specified"},
		{"-E -t [2001:db8::1]:80 -p 9 -M 129", 2, "illegal ipv6 netmask specified"},
		{"-A -t [2001:db8::1]:80 -p 9 -M x", 2, "illegal ipv6 netmask specified"},
		{"-A -t 192.0.2.2:80 -o", 2, "One-Packet Scheduling is only for UDP virtual services"},
		{"-A -t 192.0.2.2:80 -s sh -b sh-port,x", 2, "invalid scheduler flag `x'"},
		{"-A -t 192.0.2.2:80 -b sh-port", 2, "incompatible scheduler flag `sh-port'"},

		// Realservers.
		{"-a -t 192.0.2.1:80 -r [10.0.0.1]", 2, "illegal real server address[:port] specified"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2:99999", 2, "illegal real server address[:port] specified"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -w -1", 2, "illegal weight specified"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -w 2147483648", 2, "illegal weight specified"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -x 1_0", 2, "illegal u_threshold specified"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -y 5x", 2, "illegal l_threshold specified"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -g -i", 2, "multiple 'forwarding-method' options specified"},
		{"-a -t 192.0.2.1:80 -r [2001:db8::1]:80", 2, "Different address family is allowed only for tunneling servers"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 --tun-type ipip", 2, "Tunnel options conflict with forward method"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-type vxlan", 2, "illegal tunnel type specified"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-type gue", 2, "You need to supply the 'tun-port' option for the 'gue' tunnel type"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-port 1", 2, "Illegal 'tun-port' option with the 'ipip' tunnel type"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-port 0", 2, "illegal tunnel port specified"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -i --tun-type gre --tun-csum --tun-nocsum", 2,
			"The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gre' tunnel type"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -m", 2, "-m (masquerading) is not possible: this director does direct routing only, use -g"},
		{"-e -t 192.0.2.1:80 -r 10.0.0.1 --ipip", 2, "-i (tunneling) is not possible: this director does direct routing only, use -g"},

		// Timeouts and daemons.
		{"--set 1 2", 2, "--set option requires 3 timeout values"},
		{"--set 1 2 x", 2, "invalid timeout value `x' specified"},
		{"--set 1 2 3 4", 2, "unexpected argument 4"},
		{"--set -1 2 3", 255, "-1: unknown option"},
		{"--set 1 2 3 -n", 2, "Illegal 'numeric' option with the 'set' command"},
		{"--start-daemon boss", 2, "illegal start-daemon parameter specified"},
		{"--stop-daemon boss", 2, "illegal start_daemon specified"},
		{"--start-daemon master --syncid 256", 2, "illegal syncid specified"},
		{"--start-daemon master --mcast-port 0", 2, "illegal mcast-port specified"},
		{"--start-daemon master --mcast-ttl 256", 2, "illegal mcast-ttl specified"},
		{"--start-daemon master --sync-maxlen 65508", 2, "illegal sync-maxlen specified"},
		{"--start-daemon master --mcast-group 10.0.0.1", 2, "invalid IPv4 mcast-group `10.0.0.1'"},
		{"--start-daemon master --mcast-group fd00::1", 2, "invalid IPv6 mcast-group `fd00::1'"},
		{"--start-daemon backup --mcast-interface wlan9", 255, "No such device"},
		{"--stop-daemon backup", 255, "No daemon is running"},

		// What the kernel says.
		{"-A -t 192.0.2.1:80", 255, "Service already exists"},
		{"-A -t 192.0.2.2:80 -s best", 255, "Scheduler or persistence engine not found"},
		{"-E -t 192.0.2.1:80 -s best", 255, "Scheduler or persistence engine not found"},
		{"-A -t 192.0.2.2:80 --pe best", 255, "Scheduler or persistence engine not found"},
		{"-E -t 192.0.2.2:80", 255, "No such service"},
		{"-D -t 192.0.2.2:80", 255, "No such service"},
		{"-D -f 7 -6", 255, "No such service"},
		{"-Z -t 192.0.2.2:80", 255, "No such service"},
		{"-a -t 192.0.2.2:80 -r 10.0.0.1", 255, "Service not defined"},
		{"-e -u 192.0.2.1:80 -r 10.0.0.1", 255, "Service not defined"},
		{"-d -t 192.0.2.2:80 -r 10.0.0.1", 255, "Service not defined"},
		{"-a -t 192.0.2.1:80 -r 10.0.0.1", 255, "Destination already exists"},
		{"-e -t 192.0.2.1:80 -r 10.0.0.2", 255, "No such destination"},
		{"-d -t 192.0.2.1:80 -r 10.0.0.1:81", 255, "No such destination"}, // the port is forced with -a and -e only
		{"-a -t 192.0.2.1:80 -r 224.0.0.1", 255, "Invalid operation.  Possibly wrong module version, address not unicast, ..."},
		{"-a -t 192.0.2.1:80 -r 10.0.0.2 -y 1", 255, "Numerical result out of range"},
		{"-L -t 192.0.2.2:80", 1, "No such service"},
		{"-L -f 8", 1, "No such service"},
	} {
		k := table(t)
		before := k.services
		status, out, errs := run(k, tt.line, "")
		if status != tt.status || errs != tt.text+"\n" || out != "" {
			t.Errorf("%s: status %d, %q, %q; want %d, %q", tt.line, status, out, errs, tt.status, tt.text)
		}
		if len(k.services) != len(before) {
			t.Errorf("%s changed something", tt.line)
		}
	}
}

// failing is a Director of which everything fails, and that has no daemons.
type failing struct {
	Director
	init, err error
}

func (f failing) Status(context.Context) (s api.Status, err error) { return s, f.init }
func (f failing) Table(context.Context) (t api.Table, err error)   { return t, f.err }
func (f failing) Apply(context.Context, []api.Change) error        { return f.err }
func (f failing) Connections(context.Context, *api.Selection, func(api.Connection) bool) error {
	return f.err
}

func TestFailures(t *testing.T) {
	unreachable := errors.New("no director answers on /run/shunt.sock")
	const sure = "\nAre you sure that IP Virtual Server is built in the kernel or as module?\n"
	for _, tt := range []struct {
		d      failing
		line   string
		status int
		errs   string
	}{
		{failing{init: errno(syscall.EPERM)}, "-L", 2, "Can't initialize ipvs: Permission denied (you must be root)" + sure},
		{failing{init: unreachable}, "", 2, "Can't initialize ipvs: no director answers on /run/shunt.sock" + sure},
		{failing{init: unreachable}, "--nonsense", 2, "Can't initialize ipvs: no director answers on /run/shunt.sock" + sure},
		{failing{err: errno(syscall.EMSGSIZE)}, "-L", 1, "Module is wrong version\n"},
		{failing{err: errno(syscall.ENOMEM)}, "-S", 1, "Memory allocation problem\n"},
		{failing{err: errno(syscall.ENOPROTOOPT)}, "-L -f 7", 1, "Protocol not available\n"},
		{failing{err: errno(syscall.EIO)}, "-L -c", 1, "Input/output error\n"},
		{failing{err: errno(syscall.EAFNOSUPPORT)}, "-L --timeout", 1, "Operation not supported with specified address family\n"},
		{failing{err: errno(syscall.EOPNOTSUPP)}, "-C", 255, "Operation not supported with IPv6\n"},
		{failing{err: unreachable}, "--set 1 2 3", 255, "no director answers on /run/shunt.sock\n"},
		// A number of the network is not one of the kernel's, for which ipvsadm has words.
		{failing{err: syscall.ENOENT}, "-A -t 192.0.2.1:80", 255, "no such file or directory\n"},
		{failing{err: &api.Error{Code: api.CodeUnknownMark, Message: "no mark 9"}}, "-A -f 9", 255, "no mark 9\n"},
		{failing{}, "--start-daemon master", 255, "this director does not synchronize connections\n"},
		{failing{}, "--stop-daemon master", 255, "this director does not synchronize connections\n"},
		{failing{}, "-L --daemon", 0, ""},
	} {
		status, _, errs := run(tt.d, tt.line, "")
		if status != tt.status || errs != tt.errs {
			t.Errorf("%s: status %d, %q; want %d, %q", tt.line, status, errs, tt.status, tt.errs)
		}
	}
}

// TestHelp compares with what ipvsadm 1.31 prints, whether there is a director or not.
func TestHelp(t *testing.T) {
	help, err := os.ReadFile("testdata/help.txt")
	if err != nil {
		t.Fatal(err)
	}
	version, _, _ := strings.Cut(string(help), "\n")
	for _, d := range []Director{newKernel(), failing{init: errors.New("none")}} {
		for line, want := range map[string]string{"-h": string(help), "--help": string(help), "-v": version + "\n", "--version -L": version + "\n"} {
			if status, out, errs := run(d, line, ""); status != 0 || out != want || errs != "" {
				t.Errorf("%s: status %d, %q, %q", line, status, out, errs)
			}
		}
	}
}
