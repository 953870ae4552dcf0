//go:build programs

package convert

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/internal/ipvsadm"
)

// These tests are for .ci/convert, which unpacks Debian's packages of keepalived, ldirectord and
// strace under PROGRAMS_ROOT.

// root is where the packages are.
func root(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PROGRAMS_ROOT")
	if dir == "" {
		t.Fatal("PROGRAMS_ROOT does not say where the programs are: run .ci/convert")
	}
	return dir
}

// libraries are the directories of a package's shared objects.
func libraries(dir string) string {
	seen := map[string]bool{}
	var dirs []string
	_ = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".so") && !strings.Contains(name, "/perl") && !seen[filepath.Dir(name)] {
			seen[filepath.Dir(name)] = true
			dirs = append(dirs, filepath.Dir(name))
		}
		return nil
	})
	return strings.Join(dirs, ":")
}

// inNamespace runs a program in a network without interfaces and with processes of its own, so that
// all of them end with it.
func inNamespace(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	return cmd
}

// What keepalived makes of each file, with a kernel that takes all that it is asked for, is what
// was recorded. strace is that kernel, for IPv4; commands for IPv6 need netlink, and are taken from
// keepalived's own dump of what it read.
func TestKeepalivedItself(t *testing.T) {
	dir := root(t)
	for _, name := range statements(t, "testdata/keepalived/*.conf") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			lines := keepalivedLines(t, dir, name)
			for _, c := range keepalivedComplaints(t, dir, name) {
				lines = append(lines, "# "+c)
			}
			compareRecorded(t, name, lines)
		})
	}
}

func compareRecorded(t *testing.T, name string, lines []string) {
	t.Helper()
	if *update {
		text := strings.Join(append(lines, ""), "\n")
		if err := os.WriteFile(name+".ipvs", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, complaints := recorded(t, name)
	for _, c := range complaints {
		want = append(want, "# "+c)
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("recorded (-) and what the program does (+):\n%s", d)
	}
}

// keepalivedLines runs keepalived until it has set up IPVS.
func keepalivedLines(t *testing.T, dir, name string) []string {
	t.Helper()
	tmp := t.TempDir()
	cmd := inNamespace(exec.Command(filepath.Join(dir, "usr/bin/strace"), "-f", "-o", tmp+"/trace", "-xx", "-s", "4096",
		"-e", "trace=getsockopt,setsockopt", "-e", "inject=getsockopt:retval=0", "-e", "inject=setsockopt:retval=0",
		filepath.Join(dir, "usr/sbin/keepalived"), "-n", "-l", "-d", "-C", "-f", name, "-i", "main", "-p", tmp+"/pid", "-c", tmp+"/checkers"))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries(dir))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	var log bytes.Buffer
	for s := bufio.NewScanner(out); s.Scan(); {
		fmt.Fprintln(&log, s.Text())
		if strings.Contains(s.Text(), "Activating BFD healthchecker") {
			break // this comes after everything else
		}
	}
	ended := stop.Stop()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !ended || !strings.Contains(log.String(), "Activating BFD") && !strings.Contains(log.String(), "Stopped") {
		t.Fatalf("keepalived did not come up:\n%s", log.String())
	}
	trace, err := os.ReadFile(tmp + "/trace")
	if err != nil {
		t.Fatal(err)
	}
	return append(traced(t, string(trace)), dumped(log.String())...)
}

var sockopt = regexp.MustCompile(`setsockopt\(\d+, SOL_IP, IP_VS_SO_SET_(ADD|ADDDEST|TIMEOUT), "((?:\\x[0-9a-f]{2})*)", (\d+)\)`)

// traced reads the commands from a trace. Realservers stand behind their service.
func traced(t *testing.T, trace string) (lines []string) {
	var order []string
	reals := map[string][]string{}
	for _, m := range sockopt.FindAllStringSubmatch(trace, -1) {
		b := make([]byte, 0, 128)
		for _, h := range strings.Split(m[2], `\x`)[1:] {
			n, err := strconv.ParseUint(h, 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, byte(n))
		}
		if m[1] == "TIMEOUT" {
			seconds := func(i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }
			lines = append(lines, fmt.Sprintf("--set %d %d %d", seconds(0), seconds(4), seconds(8)))
			continue
		}
		c := userService(b)
		switch m[1] {
		case "ADD":
			if !slices.ContainsFunc(order, func(o string) bool { return strings.HasPrefix(o, "-A "+c.selector()+" ") }) {
				order = append(order, c.add())
			}
		case "ADDDEST":
			userDest(&c, b[44:])
			line := c.addServer()
			if server := line[:strings.LastIndex(line, " -w")]; !slices.ContainsFunc(reals[c.selector()], func(o string) bool {
				return strings.HasPrefix(o, server[:strings.LastIndex(server, " ")]+" ")
			}) {
				reals[c.selector()] = append(reals[c.selector()], line)
			}
		}
	}
	for _, o := range order {
		words := strings.Fields(o)
		lines = append(append(lines, o), reals[words[1]+" "+words[2]]...)
	}
	return lines
}

// userService reads a struct ip_vs_service_user.
func userService(b []byte) (c command) {
	s := &c.service
	s.Protocol = map[uint16]string{6: ipvsadm.TCP, 17: ipvsadm.UDP, 132: ipvsadm.SCTP}[binary.LittleEndian.Uint16(b)]
	s.Address, _ = netip.AddrFromSlice(b[4:8])
	s.Port = binary.BigEndian.Uint16(b[8:])
	s.Mark = binary.LittleEndian.Uint32(b[12:])
	s.Scheduler = strings.TrimRight(string(b[16:32]), "\x00")
	flags := binary.LittleEndian.Uint32(b[32:])
	s.OnePacket, s.Flags = flags&4 != 0, uint8(flags>>3&7)
	if flags&1 != 0 {
		s.Persistence = float64(binary.LittleEndian.Uint32(b[36:]))
	}
	ipvsadm.SetNetmask(s, netip.AddrFrom4([4]byte(b[40:44])))
	return c
}

// userDest reads a struct ip_vs_dest_user.
func userDest(c *command, b []byte) {
	d := &c.server
	d.Address, _ = netip.AddrFromSlice(b[:4])
	d.Port = binary.BigEndian.Uint16(b[4:])
	c.method = map[uint32]method{0: masquerade, 2: tunnel, 3: direct}[binary.LittleEndian.Uint32(b[8:])&7]
	d.Weight = int32(binary.LittleEndian.Uint32(b[12:]))
	d.Upper, d.Lower = int32(binary.LittleEndian.Uint32(b[16:])), int32(binary.LittleEndian.Uint32(b[20:]))
}

// dumped reads the services of IPv6 from keepalived's dump.
func dumped(log string) (lines []string) {
	groups := map[string][]netip.AddrPort{}
	var group string
	var now []netip.AddrPort
	var c command
	v6 := false
	var reals []command
	end := func() {
		if v6 {
			for _, at := range now {
				c.service.Address, c.service.Port = at.Addr(), at.Port()
				lines = append(lines, c.add())
				for _, x := range reals {
					x.service = c.service
					x.server.Port = at.Port()
					lines = append(lines, x.addServer())
				}
			}
		}
		now, reals, v6 = nil, nil, false
		c = command{}
	}
	for line := range strings.Lines(log) {
		_, text, _ := strings.Cut(line, "20")
		_, text, _ = strings.Cut(text, ": ")
		text = strings.TrimSpace(text)
		key, value, _ := strings.Cut(text, " = ")
		key = strings.TrimSpace(key)
		number := func(s string) uint64 { n, _ := strconv.ParseUint(strings.TrimSpace(s), 10, 32); return n }
		switch key {
		case "------< Virtual server >------", "------< Virtual server group >------":
			end()
		case "Virtual Server Group":
			group, _, _ = strings.Cut(value, ",")
		case "VIP Range", "VIP":
			addrs, port, _ := strings.Cut(value, ", VPORT = ")
			first, last, isRange := strings.Cut(addrs, "-")
			a := netip.MustParseAddr(first)
			b := a
			if isRange {
				b = netip.MustParseAddr(last)
			}
			for ; ; a = a.Next() {
				groups[group] = append(groups[group], netip.AddrPortFrom(a, uint16(number(port))))
				if a == b {
					break
				}
			}
		case "VS GROUP":
			now = groups[strings.Trim(value[:strings.LastIndex(value, ":")], "[]")]
		case "VS VIP":
			addr, port, _ := strings.Cut(value, ", VPORT = ")
			now = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(number(port)))}
		case "Address family":
			v6 = value == "inet6" && now != nil
		case "lvs_sched":
			c.service.Scheduler = value
		case "sh-fallback", "mh-fallback", "flag-1":
			if value == "enabled" {
				c.service.Flags |= 1
			}
		case "sh-port", "mh-port", "flag-2":
			if value == "enabled" {
				c.service.Flags |= 2
			}
		case "One packet scheduling":
			c.service.OnePacket = value == "enabled"
		case "persistence timeout":
			c.service.Persistence = float64(number(value))
		case "persistence granularity":
			ipvsadm.SetPrefix(&c.service, int(number(value)))
		case "protocol":
			c.service.Protocol = value
		case "RIP":
			var x command
			addr, rest, _ := strings.Cut(value, ", RPORT = ")
			_, weight, _ := strings.Cut(rest, ", WEIGHT = ")
			weight, _, _ = strings.Cut(weight, " ")
			x.server.Address, x.server.Weight = netip.MustParseAddr(addr), int32(number(weight))
			reals = append(reals, x)
		case "forwarding method":
			if n := len(reals); n > 0 {
				reals[n-1].method = method(value[:min(len(value), 3)])
			}
		case "connection limit range":
			if n := len(reals); n > 0 {
				low, high, _ := strings.Cut(value, " -> ")
				reals[n-1].server.Lower, reals[n-1].server.Upper = int32(number(low)), int32(number(high))
			}
		}
	}
	end()
	return lines
}

var lineOf = regexp.MustCompile(`Line (\d+)\)`)

// keepalivedComplaints are the lines of the file itself about which `keepalived -t` complains.
func keepalivedComplaints(t *testing.T, dir, name string) (out []string) {
	t.Helper()
	cmd := inNamespace(exec.Command(filepath.Join(dir, "usr/sbin/keepalived"), "-t", "-f", name, "-i", "main"))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries(dir))
	text, _ := cmd.CombinedOutput() // its status tells of complaints, too
	for line := range strings.Lines(string(text)) {
		c := "file"
		if m := lineOf.FindStringSubmatch(line); m != nil {
			c = "line " + m[1]
		}
		if !strings.Contains(line, "SECURITY VIOLATION") && !strings.Contains(line, "keepalived_script") && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}
