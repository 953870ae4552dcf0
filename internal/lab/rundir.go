package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// runRoot names the folder in which each laboratory has a folder of its own. It is found by `shunt lab exec` from another
// terminal, so it depends on the user alone: the user outside of a user namespace.
const runRoot = "SHUNT_LAB_RUN"

// Prepare notes which user we are, before netlab.Privileged may make us root of a user namespace.
func Prepare() error {
	if os.Getenv(runRoot) != "" {
		return nil
	}
	return os.Setenv(runRoot, filepath.Join(os.TempDir(), fmt.Sprintf("shunt-lab-%d", os.Getuid())))
}

// root makes and checks the folder: nobody else may have put one there for us.
func root() (string, error) {
	if err := Prepare(); err != nil {
		return "", err
	}
	dir := os.Getenv(runRoot)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(st.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s is not a folder of ours: remove it, or set TMPDIR", dir)
	}
	return dir, nil
}

// newRunDir makes the folder of this run, and removes those that crashed runs left. Their networks went with them.
func newRunDir() (string, error) {
	dir, err := root()
	if err != nil {
		return "", err
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range old {
		if path := filepath.Join(dir, e.Name()); !alive(path) {
			_ = os.RemoveAll(path)
		}
	}
	return os.MkdirTemp(dir, strconv.Itoa(os.Getpid())+"-")
}

// alive reports whether somebody still holds the folder of a run. Process numbers of user namespaces are the same as
// outside, as no namespace of processes is made.
func alive(path string) bool {
	var pid int
	if _, err := fmt.Sscanf(filepath.Base(path), "%d-", &pid); err != nil {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// standing finds the laboratory that `shunt lab exec` is meant for.
func standing() (*net.UnixConn, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	sockets, err := filepath.Glob(filepath.Join(dir, "*", execSocket))
	if err != nil {
		return nil, err
	}
	var found *net.UnixConn
	for _, s := range sockets {
		c, err := net.DialTimeout("unix", s, time.Second)
		if err != nil {
			continue
		}
		if found != nil {
			found.Close()
			c.Close()
			return nil, errors.New("several laboratories stand: end all but one")
		}
		found = c.(*net.UnixConn)
	}
	if found == nil {
		return nil, errors.New("no laboratory stands here: start one by `shunt lab --keep` in another terminal")
	}
	return found, nil
}
