package ring

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// noNetwork says why the tests that need a network namespace cannot run; empty if they can.
var noNetwork string

// TestMain runs the tests as root: where the user is another, in a user namespace of their own, in
// which the user may make network namespaces.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 && !fuzzing() {
		status, err := again()
		if err == nil {
			os.Exit(status)
		}
		noNetwork = fmt.Sprintf("needs root or user namespaces: %v", err)
	}
	os.Exit(m.Run())
}

// fuzzing reports whether go test fuzzes: then processes talk to each other through files that
// would not be passed on, and the targets need no network.
func fuzzing() bool {
	for _, a := range os.Args[1:] {
		if strings.HasPrefix(strings.TrimLeft(a, "-"), "test.fuzz") {
			return true
		}
	}
	return false
}

// again runs this program in new namespaces and returns its exit status, or an error if it could
// not be started.
func again() (int, error) {
	// The child is to end with its parent's thread, should go test kill the parent.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil // -1 where a signal ended it
	}
	return 0, err
}
