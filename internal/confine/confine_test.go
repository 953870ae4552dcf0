package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"shunt/api"
)

// inside names the directory in which this program, run again, tries what it may after Apply.
const inside = "SHUNT_CONFINE_INSIDE"

func TestMain(m *testing.M) {
	if base := os.Getenv(inside); base != "" {
		os.Exit(try(base))
	}
	os.Exit(m.Run())
}

// try gives everything up, and says what does not go as it should.
func try(base string) (status int) {
	wrong := func(format string, args ...any) {
		fmt.Printf(format+"\n", args...)
		status = 1
	}
	// Threads that are there before: what is given up is given up on each.
	var up, down sync.WaitGroup
	stay := make(chan struct{})
	for range 4 {
		up.Add(1)
		down.Go(func() {
			runtime.LockOSThread()
			up.Done()
			<-stay
			if _, err := os.ReadFile(base + "/secret"); err == nil {
				wrong("a thread may still read")
			}
		})
	}
	up.Wait()
	c := Apply(Policy{Read: []string{base + "/read", base + "/missing", "/proc"}, Write: []string{base + "/write"}, Sockets: []string{base + "/sockets"}})
	close(stay)
	down.Wait()
	if !c.NoNewPrivs || !c.Seccomp || len(c.Missing) > 0 && c.Landlock > 0 {
		wrong("in force: %+v", c)
	}
	for _, name := range c.Capabilities {
		if name != "cap_net_admin" && name != "cap_net_raw" {
			wrong("%s is left", name)
		}
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		t := parse(text)
		if !slices.Equal(t.Capabilities, c.Capabilities) || !t.NoNewPrivs || !t.Seccomp {
			wrong("%s: %+v", task, t)
		}
		for line := range strings.Lines(string(text)) {
			if key, value, _ := strings.Cut(line, ":"); key == "CapInh" || key == "CapAmb" {
				if strings.Trim(value, " \t\n0") != "" {
					wrong("%s: %s", task, line)
				}
			}
		}
	}
	for what, f := range map[string]func() error{
		"read in a directory to read":    func() error { _, err := os.ReadFile(base + "/read/file"); return err },
		"write in a directory to write":  func() error { return os.WriteFile(base+"/write/file", nil, 0o600) },
		"rename in a directory to write": func() error { return os.Rename(base+"/write/old", base+"/write/new") },
		"a socket":                       func() error { _, err := net.Listen("unix", base+"/sockets/s"); return err },
		"remove a socket":                func() error { return os.Remove(base + "/sockets/old") },
	} {
		if err := f(); err != nil {
			wrong("%s: %v", what, err)
		}
	}
	refused := map[string]func() error{
		"execute": func() error { return exec.Command("/proc/self/exe", "-test.run=^$").Run() },
		"ptrace":  func() error { return unix.PtraceAttach(os.Getppid()) },
		"mount":   func() error { return unix.Mount("none", base, "tmpfs", 0, "") },
		"unshare": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"bpf": func() error {
			if _, _, errno := unix.Syscall(unix.SYS_BPF, 0, 0, 0); errno != 0 {
				return errno
			}
			return nil
		},
	}
	if c.Landlock > 0 {
		refused["read elsewhere"] = func() error { _, err := os.ReadFile(base + "/secret"); return err }
		refused["list elsewhere"] = func() error { _, err := os.ReadDir(base); return err }
		refused["write in a directory to read"] = func() error { return os.WriteFile(base+"/read/file", nil, 0o600) }
		refused["write elsewhere"] = func() error { return os.WriteFile(base+"/other", nil, 0o600) }
		refused["a file among sockets"] = func() error { return os.WriteFile(base+"/sockets/file", nil, 0o600) }
	}
	for what, f := range refused {
		if err := f(); !errors.Is(err, fs.ErrPermission) {
			wrong("%s: %v", what, err)
		}
	}
	if err := Refused(fs.ErrPermission, "these"); !strings.Contains(err.Error(), "other than these") {
		wrong("the hint is %v", err)
	}
	return status
}

// TestApply: what is not in the policy is refused, to all threads, and what is in it is not.
func TestApply(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"read", "write", "sockets"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"secret", "read/file", "write/old", "sockets/old"} {
		if err := os.WriteFile(filepath.Join(base, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), inside+"="+base)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER, // so that there are capabilities to be given up, whoever we are
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_NET_RAW, unix.CAP_SYS_ADMIN},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestParse: what the kernel says of a process.
func TestParse(t *testing.T) {
	c := parse([]byte("Name:\tshunt\nCapInh:\t0000000000000000\nCapPrm:\t0000000000003000\nCapBnd:\tffffffffffffffff\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"))
	want := api.Confinement{Capabilities: []string{"cap_net_admin", "cap_net_raw"}, NoNewPrivs: true, Seccomp: true}
	if fmt.Sprint(c) != fmt.Sprint(want) {
		t.Errorf("%+v", c)
	}
	if c := parse([]byte("CapPrm:\tnonsense\nNoNewPrivs:\t0\nSeccomp:\t0\n")); len(c.Capabilities) != 0 || c.NoNewPrivs || c.Seccomp {
		t.Errorf("%+v", c)
	}
}

// TestRefused: only an error of permissions gets the hint.
func TestRefused(t *testing.T) {
	if err := Refused(fs.ErrNotExist, "these"); err != fs.ErrNotExist {
		t.Error(err)
	}
	if err := Refused(nil, "these"); err != nil {
		t.Error(err)
	}
}
