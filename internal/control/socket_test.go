package control

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenRefuses: the socket is made only where nobody else can put something in its place, and
// nothing of others is removed, opened, or given other permissions for it.
func TestListenRefuses(t *testing.T) {
	base, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	victim := filepath.Join(base, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"a symbolic link to a file", func(p string) error { return os.Symlink(victim, p) }, "no socket"},
		{"a symbolic link to nothing", func(p string) error { return os.Symlink(base+"/nothing", p) }, "no socket"},
		{"a hard link to a file", func(p string) error { return os.Link(victim, p) }, "no socket"},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o700) }, "no socket"},
		{"everybody's directory", func(p string) error { return os.Chmod(filepath.Dir(p), 0o777) }, "everybody can write"},
	} {
		dir, err := os.MkdirTemp(base, "d")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "s")
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		ln, err := listen(path, 0o666, "")
		if err == nil {
			ln.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "control") {
			t.Errorf("%s: the error is %v, and does not say %q", c.name, err, c.want)
		}
		if info, err := os.Lstat(victim); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the permissions of another file are %v: %v", c.name, info.Mode(), err)
		}
		if text, _ := os.ReadFile(victim); string(text) != "untouched" {
			t.Errorf("%s: another file has %q", c.name, text)
		}
	}
	if _, err := os.Lstat(base + "/nothing"); err == nil {
		t.Error("a file was made where a link led to")
	}
}

// TestSocketPermissions: they are what was asked for, whatever the umask is, in a sticky directory
// too.
func TestSocketPermissions(t *testing.T) {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	for _, mask := range []int{0, 0o077, 0o177} {
		before := unix.Umask(mask)
		ln, err := listen(path, 0o660, "")
		unix.Umask(before)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o660 {
			t.Errorf("umask %o: %v, %v", mask, info.Mode(), err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		ln.Close()
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("umask %o: the socket is left", mask)
		}
	}
}
