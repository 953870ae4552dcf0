package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside marks the process that runs in its own user namespace.
const inside = "SHUNT_NETLAB_INSIDE"

// Privileged returns nil if this process can create network namespaces. Otherwise it runs this
// program again in a user namespace, with the same arguments, and exits with its status. The error
// says why neither is possible.
func Privileged() error {
	if mayUnshare() {
		return nil
	}
	if os.Getenv(inside) != "" {
		return errors.New("a user namespace was made, but no network namespace can be made in it")
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	runtime.LockOSThread() // the child is to die with this process, not with a thread of it
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("network namespaces need root, or a user namespace, which is refused here: %w%s", err, hint())
	}
	go func() {
		for s := range signals {
			// The terminal sends SIGINT to both of us; twice is no harm.
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		if exit.ExitCode() < 0 {
			os.Exit(1)
		}
		os.Exit(exit.ExitCode())
	}
	return err
}

// mayUnshare tries it, on a thread that ends afterwards.
func mayUnshare() bool {
	ok := make(chan bool)
	go func() {
		runtime.LockOSThread()
		ok <- unix.Unshare(unix.CLONE_NEWNET) == nil
	}()
	return <-ok
}

// hint names the usual reasons.
func hint() string {
	for path, bad := range map[string]string{
		"/proc/sys/kernel/unprivileged_userns_clone":             "0",
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
		"/proc/sys/user/max_user_namespaces":                     "0",
	} {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == bad {
			return fmt.Sprintf(" (%s is %s)", path, bad)
		}
	}
	return ""
}
