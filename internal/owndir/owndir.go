// Package owndir opens directories in which nobody but this process's user and root can change
// names.
//
// A process with privileges that writes into a directory of somebody else writes wherever that one
// wants: a symbolic link in the place of the file, or in the place of a directory on the way, is
// enough. So each directory on the way is looked at before anything in it is believed. What passed
// cannot change under us, except by root and by our own user.
package owndir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Use says what a directory is for.
type Use int

const (
	// Private is for files that are read again: the directory belongs to this process's user or
	// root, and only they write to it.
	Private Use = iota
	// Shared may also be a directory like /tmp, where everybody makes names, but nobody can take
	// those of others away.
	Shared
)

// ErrUntrusted is wrapped by errors about a directory, or one on the way to it, that others can
// change.
var ErrUntrusted = errors.New("not safe to use")

// maxLinks bounds the symbolic links on the way, as the kernel does: path_resolution(7).
const maxLinks = 40

// Open returns the directory at path, which must be absolute, after it has looked at each directory
// on the way. Those that are missing are made: the last with perm, those before it with 0755. Close
// the Root after use. An error that wraps ErrUntrusted says which directory is at fault, why, and
// what to do.
//
// On the way there may be symbolic links that this process's user or root made.
func Open(path string, perm fs.FileMode, use Use) (*os.Root, error) {
	dir, err := find(path, use, func(dir string, last bool) error {
		if last {
			return os.Mkdir(dir, perm)
		}
		return os.Mkdir(dir, 0o755)
	})
	if err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// Check is Open without making or opening anything: a directory that is missing is no error if it
// could be made safely.
func Check(path string, use Use) error {
	_, err := find(path, use, func(string, bool) error { return fs.ErrNotExist })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// find walks to a directory, has those made that are missing, and returns its name without symbolic
// links.
func find(path string, use Use, make func(dir string, last bool) error) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("directory %q: not an absolute path", path)
	}
	who := us()
	at, rest, links := "/", parts(path), 0
	for {
		last := len(rest) == 0
		if err := who.check(at, last && use == Private); err != nil {
			return "", err
		}
		if last {
			return at, nil
		}
		next := filepath.Join(at, rest[0])
		info, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			if err = make(next, len(rest) == 1); err == nil || errors.Is(err, fs.ErrExist) {
				info, err = os.Lstat(next)
			}
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at, rest = next, rest[1:]
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("directory %s: %w", path, syscall.ELOOP)
		}
		if owner := Owner(info); !who.trusts(owner) {
			return "", fmt.Errorf("%s is %w: this symbolic link belongs to user %d; remove it, or choose another directory", next, ErrUntrusted, owner)
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if rest = append(parts(to), rest[1:]...); filepath.IsAbs(to) {
			at = "/"
		}
	}
}

func parts(path string) []string {
	var out []string
	for p := range strings.SplitSeq(path, "/") {
		if p != "" && p != "." {
			out = append(out, p) // ".." too: behind a symbolic link it is not what Clean takes it for
		}
	}
	return out
}

// trust is whom this process trusts: root, and its own user.
type trust struct {
	user uint32
	// others is a user who is root to those outside of a user namespace, where all users outside
	// look alike; -1 is nobody.
	others int64
}

func us() trust {
	t := trust{user: uint32(os.Geteuid()), others: -1}
	b, err := os.ReadFile("/proc/self/uid_map") // user_namespaces(7)
	if f := strings.Fields(string(b)); err != nil || len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295" {
		return t
	}
	t.others = 65534
	if b, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
		fmt.Sscan(string(b), &t.others)
	}
	return t
}

// trusts reports whether a user cannot be kept from changing our files anyway.
func (t trust) trusts(user uint32) bool {
	return user == 0 || user == t.user || int64(user) == t.others
}

// check looks at one directory. strict is for one whose files are to be believed.
func (t trust) check(path string, strict bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	owner := Owner(info)
	if !t.trusts(owner) || strict && int64(owner) == t.others && owner != t.user {
		return fmt.Errorf("%s is %w: it belongs to user %d, and this process is user %d; choose another directory, or `chown` this one", path, ErrUntrusted, owner, t.user)
	}
	mode := info.Mode()
	if who := t.writers(info); who != "" && (strict || mode&fs.ModeSticky == 0) {
		return fmt.Errorf("%s is %w: %s can write to it (%v); `chmod go-w` it, or choose another directory", path, ErrUntrusted, who, mode)
	}
	return nil
}

// writers names who else can write to a directory. Root's group and the group that many systems
// give each user are not others.
func (t trust) writers(info fs.FileInfo) string {
	st, _ := info.Sys().(*syscall.Stat_t)
	switch perm := info.Mode().Perm(); {
	case perm&0o002 != 0:
		return "everybody"
	case perm&0o020 == 0, st.Gid == 0, st.Gid == t.user && st.Uid == t.user, int64(st.Gid) == t.others:
		return ""
	default:
		return fmt.Sprintf("group %d", st.Gid)
	}
}

// Owner is the user to whom a file belongs.
func Owner(info fs.FileInfo) uint32 {
	st, _ := info.Sys().(*syscall.Stat_t)
	return st.Uid
}

// OpenFile opens a regular file of the directory that nobody else has another name for, or makes
// it; a symbolic link, a socket, or a file of somebody else is an error. flag is as for
// os.OpenFile.
func OpenFile(dir *os.Root, name string, flag int, perm fs.FileMode) (*os.File, error) {
	if info, err := dir.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %w: it is no regular file (%v); remove it", filepath.Join(dir.Name(), name), ErrUntrusted, info.Mode())
	}
	f, err := dir.OpenFile(name, flag&^os.O_TRUNC, perm)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = alone(f.Name(), info)
	}
	if err == nil && flag&os.O_TRUNC != 0 {
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// alone returns an error unless a file is a regular one, ours or root's, with one name.
func alone(name string, info fs.FileInfo) error {
	st, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is %w: it is no regular file (%v); remove it", name, ErrUntrusted, info.Mode())
	case st.Nlink > 1:
		return fmt.Errorf("%s is %w: it has %d names (hard links); remove it", name, ErrUntrusted, st.Nlink)
	case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("%s is %w: it belongs to user %d; remove it", name, ErrUntrusted, st.Uid)
	}
	return nil
}

// Create makes a file in the place of what has the name, which must not be a directory. What a
// symbolic link or another hard link names stays as it is.
func Create(dir *os.Root, name string, flag int, perm fs.FileMode) (*os.File, error) {
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return dir.OpenFile(name, flag|os.O_CREATE|os.O_EXCL, perm)
}
