package ipvsadm

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"shunt/api"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// FuzzParse takes any command line and any input of -R. Nothing panics, the status is one of
// ipvsadm's, and what -S saves makes the same table when it is restored.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"-A -t 192.0.2.1:80 -s rr", "-A -u [2001:db8::1]:53 -p -o -M 64", "-a -t 192.0.2.1:80 -r 10.0.0.1 -w 3 -x 9 -y 2",
		"-Lnc --persistent-conn", "-A -f 7 -6 -b flag-1,flag-2", "--set 1 2 3", "-AtLn", "-p=", "--start-daemon=master --syncid 1",
		"-S -n", "-R", "-t", "--", "-", "-A -t [::1.2.3.4]:80", "-A -s sh -b sh-port -t 0x7f.1:80",
		"-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1\n\n-C ", "-A -f 2147483648", "ipvsadm -A -f 1\r\n # -Z -f 1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		k := newKernel()
		k.conns = []api.Connection{{Protocol: "TCP", Client: ap("192.0.2.7:1"), Virtual: ap("192.0.2.1:80"), Realserver: ap("10.0.0.1:80")}}
		for _, args := range [][]string{strings.Fields(line), strings.Split(line, " "), {"-R"}} {
			var out strings.Builder
			status := RunPlain(args, strings.NewReader(line), &out, &out, k, knownNames{})
			if !slices.Contains([]int{0, 1, 2, 255}, status) {
				t.Fatalf("%q: status %d", args, status)
			}
		}
		if slices.ContainsFunc(k.services, func(s api.TableService) bool { return int32(s.Mark) < 0 || s.Flags == 4 && s.Scheduler != "rr" }) {
			return // what ipvsadm prints of such a mark, and of a flag of sh that has no name, it does not take back
		}
		_, saved, _ := run(k, "-S -n", "")
		restored := newKernel()
		if status, out, errs := run(restored, "-R", saved); status != 0 || out+errs != "" {
			t.Fatalf("%q: status %d, %s%s", saved, status, out, errs)
		}
		_, again, _ := run(restored, "-S -n", "")
		if lines(saved) != lines(again) { // their order depends on the kernel's, which is another then
			t.Fatalf("saved\n%s, restored\n%s", saved, again)
		}
	})
}

func lines(s string) string {
	l := strings.Split(s, "\n")
	slices.Sort(l)
	return strings.Join(l, "\n")
}
