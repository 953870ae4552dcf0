package convert

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/api"
	"shunt/internal/ipvsadm"
)

// testdata/keepalived and testdata/ldirectord have a small file for each statement of the manuals,
// and beside it (.ipvs) what the program makes of it in IPVS, as command lines of ipvsadm.
// .ci/convert records these from the programs themselves, and fails if they are not what they were;
// here they are compared with what is read.

// A `# line N` in such a file is a line about which keepalived complains, `# file` a complaint
// about none.
var complaint = regexp.MustCompile(`^# (file|line (\d+))$`)

func TestKeepalivedStatements(t *testing.T) {
	for _, name := range statements(t, "testdata/keepalived/*.conf") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			r := readStatement(t, name)
			want, complaints := recorded(t, name)
			if d := cmp.Diff(want, commands(r)); d != "" {
				t.Errorf("keepalived's services (-) and ours (+):\n%s", d)
			}
			r.judge()
			for _, c := range complaints {
				if !notedUpTo(r.notes, c) {
					t.Errorf("keepalived complains about %s, and there is no note before it", c)
				}
			}
		})
	}
}

// notedUpTo reports whether a note tells of a complaint: one about the line, or one before it that
// led to it.
func notedUpTo(notes []Note, complaint string) bool {
	line, err := strconv.Atoi(strings.TrimPrefix(complaint, "line "))
	return slices.ContainsFunc(notes, func(n Note) bool { return err != nil || line == 0 || n.Line <= line })
}

func TestLdirectordStatements(t *testing.T) {
	for _, name := range statements(t, "testdata/ldirectord/*.cf") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			r := readStatement(t, name)
			want, complaints := recorded(t, name)
			if len(complaints) > 0 {
				if r.losses() == 0 {
					t.Error("ldirectord would not start, and no note says so")
				}
				return
			}
			if d := cmp.Diff(want, commands(r)); d != "" {
				t.Errorf("ldirectord's services (-) and ours (+):\n%s", d)
			}
		})
	}
}

func statements(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) < 20 {
		t.Fatalf("%s: %d files, %v", pattern, len(names), err)
	}
	return names
}

func readStatement(t *testing.T, name string) *result {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r := newResult(testNames{})
	if err := r.read(name, text, Options{ConfigID: "main"}, realDisk); err != nil {
		t.Fatal(err)
	}
	return r
}

// recorded is what .ci/convert recorded of a file.
func recorded(t *testing.T, name string) (lines, complaints []string) {
	t.Helper()
	text, err := os.ReadFile(name + ".ipvs")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := complaint.FindStringSubmatch(line); m != nil {
			complaints = append(complaints, m[1])
		} else {
			lines = append(lines, line)
		}
	}
	return lines, complaints
}

func (r *result) losses() int { return Result{Notes: r.notes}.Losses() }

// commands are those that would make IPVS what was read.
func commands(r *result) (lines []string) {
	if t := r.timeouts; t != (api.Timeouts{}) {
		lines = append(lines, fmt.Sprintf("--set %d %d %d", int(t.TCP), int(t.TCPFin), int(t.UDP)))
	}
	for _, s := range r.services {
		c := command{service: s.VirtualService}
		lines = append(lines, c.add())
		for _, x := range s.reals {
			c.server, c.method = x.VirtualServer, x.method
			lines = append(lines, c.addServer())
		}
	}
	return lines
}

// command is one line that adds a service or a realserver.
type command struct {
	service api.VirtualService
	server  api.VirtualServer
	method  method
}

func (c *command) selector() string {
	s := &c.service
	if s.Mark != 0 {
		return fmt.Sprintf("-f %d", s.Mark) + map[bool]string{true: " -6"}[s.V6]
	}
	option := map[string]string{ipvsadm.TCP: "-t", ipvsadm.UDP: "-u", ipvsadm.SCTP: "--sctp-service"}[s.Protocol]
	return fmt.Sprintf("%s %s", option, netip.AddrPortFrom(s.Address, s.Port))
}

func (c *command) add() string {
	s := &c.service
	line := "-A " + c.selector() + " -s " + s.Scheduler
	if s.Persistence > 0 {
		line += fmt.Sprintf(" -p %d", int(s.Persistence)) + maskText(s)
	}
	if s.OnePacket {
		line += " -o"
	}
	for i := range 3 {
		if s.Flags&(1<<i) != 0 {
			line += fmt.Sprintf(" -b flag-%d", i+1)
		}
	}
	return line
}

func maskText(s *api.VirtualService) string {
	switch {
	case s.Netmask.IsValid():
		return " -M " + s.Netmask.String()
	case s.MaskBits == 0:
		return ""
	case s.Is6():
		return fmt.Sprintf(" -M %d", s.MaskBits)
	}
	return " -M " + net.IP(net.CIDRMask(s.MaskBits, 32)).String()
}

func (c *command) addServer() string {
	d := &c.server
	method := map[method]string{direct: "-g", masquerade: "-m", tunnel: "-i"}[c.method]
	line := fmt.Sprintf("-a %s -r %s %s -w %d", c.selector(), netip.AddrPortFrom(d.Address, d.Port), method, d.Weight)
	if d.Upper > 0 || d.Lower > 0 {
		line += fmt.Sprintf(" -x %d -y %d", d.Upper, d.Lower)
	}
	return line
}
