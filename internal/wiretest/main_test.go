package wiretest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"shunt/internal/netlab"
)

// program is the shunt under test.
var program string

// without names the capabilities that this process is to lose before it becomes the command in its
// arguments.
const without = "SHUNT_WIRETEST_WITHOUT"

func TestMain(m *testing.M) {
	if caps := os.Getenv(without); caps != "" {
		fmt.Fprintln(os.Stderr, becomeWithout(strings.Split(caps, ",")))
		os.Exit(99)
	}
	if err := netlab.Privileged(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(withBinary(m))
}

// withBinary builds shunt, unless there is one to be tested.
func withBinary(m *testing.M) int {
	program = os.Getenv("SHUNT_BINARY")
	if program == "" {
		dir, err := os.MkdirTemp("", "shunt-wiretest-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "shunt")
		args := []string{"build", "-o", program}
		if race {
			args = append(args, "-race")
			_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // the director is to end as soon as it otherwise does
		}
		build := exec.Command("go", append(args, "shunt/cmd/shunt")...)
		if race {
			build.Env = append(os.Environ(), "CGO_ENABLED=1")
		}
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// becomeWithout executes the command in our arguments such that it cannot get the capabilities, not
// even as root: an ordinary user has them neither. It works in a user namespace too, where there is
// no other user to become.
func becomeWithout(caps []string) error {
	if len(os.Args) < 2 {
		return errors.New("no command")
	}
	runtime.LockOSThread()
	for _, c := range caps {
		n, err := strconv.Atoi(c)
		if err != nil {
			return err
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
			return fmt.Errorf("PR_CAPBSET_DROP %d: %w", n, err)
		}
	}
	if err := os.Unsetenv(without); err != nil {
		return err
	}
	return syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
}
