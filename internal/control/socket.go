package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"shunt/internal/owndir"
)

// listen makes the socket at path with permissions and, unless it is empty, a group. It is bound,
// gets both, and only then listens: nobody whom the permissions keep out can connect in between.
// Its directory must be one in which nobody else can put another file in its place.
func listen(path string, mode fs.FileMode, group string) (net.Listener, error) {
	dir, err := owndir.Open(filepath.Dir(path), 0o755, owndir.Shared)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w; or choose another place under control.socket, or \"off\"", err)
	}
	defer dir.Close()
	if err := Free(path); err != nil {
		return nil, err
	}
	if err := removeStale(dir, filepath.Base(path)); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, fmt.Errorf("control socket: bind %s: %w", path, err)
	}
	ln, err := func() (net.Listener, error) {
		if err := restrict(dir, filepath.Base(path), mode, group); err != nil {
			return nil, err
		}
		if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
			return nil, fmt.Errorf("control socket: listen on %s: %w", path, err)
		}
		return net.FileListener(f)
	}()
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(true)
	}
	return ln, nil
}

// removeStale removes the socket that a director left which was killed. Anything else stays, and is
// an error.
func removeStale(dir *os.Root, name string) error {
	info, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = ours(filepath.Join(dir.Name(), name), info)
	}
	if err == nil {
		err = dir.Remove(name)
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// ours returns an error unless a file is a socket of this process's user or of root.
func ours(path string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is there already, and no socket (%v); remove it, or choose another name", path, info.Mode())
	}
	if owner := owndir.Owner(info); owner != 0 && owner != uint32(os.Geteuid()) {
		return fmt.Errorf("%s is there already, and belongs to user %d; remove it, or choose another name", path, owner)
	}
	return nil
}

// restrict gives the socket its permissions and its group, through a descriptor of this very file.
func restrict(dir *os.Root, name string, mode fs.FileMode, group string) error {
	gid, err := groupID(group)
	if err != nil {
		return err
	}
	path := filepath.Join(dir.Name(), name)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = ours(path, info)
	}
	if err == nil && gid >= 0 {
		err = unix.Fchownat(fd, "", -1, gid, unix.AT_EMPTY_PATH)
	}
	if err == nil {
		err = os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode) // fchmod does not take such a descriptor
	}
	if err != nil {
		return fmt.Errorf("control socket: permissions of %s: %w", path, err)
	}
	return nil
}

// groupID finds a group by name; -1 is none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("control.group: %w", err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return 0, fmt.Errorf("control.group %s has the id %q, which is not a number", group, g.Gid)
	}
	return gid, nil
}
