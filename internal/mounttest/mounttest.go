// Package mounttest gives tests file systems that are small: what they do when there is no room
// cannot be tried on the host's.
package mounttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside names the test that runs in its own mount namespace.
const inside = "SHUNT_MOUNTTEST_INSIDE"

// Tmpfs runs body with a tmpfs of so many bytes at dir. For that it runs this test, by its name,
// once more in a process in mount and user namespaces of its own, so it needs no privileges; what
// comes before the call in the test is done there too.
func Tmpfs(t *testing.T, size int, body func(dir string)) {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		dir, err := os.MkdirTemp("", "m") // a path that is short enough for a socket
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatalf("make mounts private: %v", err)
		}
		if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d,mode=0755", size)); err != nil {
			t.Fatalf("mount a tmpfs at %s: %v", dir, err)
		}
		t.Cleanup(func() {
			if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)); err != nil {
				t.Error(err)
			}
		})
		body(dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run="+pattern(t.Name()), "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in its own mount namespace: %v\n%s", err, out)
	}
}

// pattern is what -test.run takes for one test and nothing else.
func pattern(name string) string { return "^" + strings.ReplaceAll(name, "/", "$/^") + "$" }
