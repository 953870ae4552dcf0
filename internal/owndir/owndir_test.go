package owndir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stranger owns what nobody trusts.
const stranger = 4242

// strangers makes everything below dir belong to somebody else, as far as this process may, and
// returns whom it trusts: without the right to give files away, it looks at its own with the eyes
// of another.
func strangers(t *testing.T, path string) trust {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, stranger, stranger); err == nil {
			return us()
		}
	}
	return trust{user: uint32(os.Geteuid()) + 1, others: -1}
}

// makeDir makes a directory with these permissions, whatever the umask is.
func makeDir(t *testing.T, path string, perm fs.FileMode) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(path, 0o700), os.Chmod(path, perm)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpen: directories that others can change are refused, on the way too, and those that are
// missing are made.
func TestOpen(t *testing.T) {
	base := makeDir(t, t.TempDir(), 0o755)
	for _, c := range []struct {
		name string
		path string
		use  Use
		make func()
		want string // part of the error; "" is none
	}{
		{"made, with those before it", "a/b/c", Private, func() {}, ""},
		{"ours", "ours", Private, func() { makeDir(t, base+"/ours", 0o755) }, ""},
		{"everybody's", "open", Private, func() { makeDir(t, base+"/open", 0o777) }, "everybody can write"},
		{"everybody's, but sticky", "sticky", Private, func() { makeDir(t, base+"/sticky", 0o777|fs.ModeSticky) }, "everybody can write"},
		{"sticky, shared", "sticky", Shared, func() {}, ""},
		{"in a sticky one", "sticky/in", Private, func() {}, ""},
		{"everybody's, shared", "open", Shared, func() {}, "everybody can write"},
		{"in one of everybody", "open/in", Private, func() { makeDir(t, base+"/open/in", 0o700) }, "everybody can write"},
		{"missing in one of everybody", "open/other", Private, func() {}, "everybody can write"},
		{"by a link of ours", "link", Private, func() { _ = os.Symlink("ours", base+"/link") }, ""},
		{"below a link of ours", "link/in", Private, func() {}, ""},
		{"by a link to one of everybody", "link2/x", Private, func() { _ = os.Symlink(base+"/open/in", base+"/link2") }, "everybody can write"},
		{"by a loop", "loop", Private, func() { _ = os.Symlink("loop", base+"/loop") }, "too many levels"},
		{"back and forth", "ours/../ours", Private, func() {}, ""},
		{"a file", "file", Private, func() { _ = os.WriteFile(base+"/file", nil, 0o600) }, "not a directory"},
	} {
		c.make()
		dir, err := Open(filepath.Join(base)+"/"+c.path, 0o700, c.use)
		if err == nil {
			dir.Close()
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: the error is %v, and does not say %q", c.name, err, c.want)
		case strings.Contains(c.want, "write") && !errors.Is(err, ErrUntrusted):
			t.Errorf("%s: the error is not ErrUntrusted: %v", c.name, err)
		}
	}
	if info, err := os.Stat(base + "/a/b/c"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory that was made: %v, %v", info, err)
	}
	if _, err := os.Stat(base + "/open/other"); err == nil {
		t.Error("a directory was made in one that was refused")
	}
	if err := Check(base+"/not/there", Private); err != nil {
		t.Errorf("a directory that could be made: %v", err)
	}
	if _, err := os.Stat(base + "/not"); err == nil {
		t.Error("Check made a directory")
	}
	if err := Check(base+"/open/not/there", Private); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a directory that could not be made safely: %v", err)
	}
	if _, err := Open("relative", 0o700, Private); err == nil {
		t.Error("a relative path is taken")
	}
}

// TestStrangers: nothing that belongs to another user is believed.
func TestStrangers(t *testing.T) {
	base := makeDir(t, t.TempDir(), 0o755)
	dir := makeDir(t, base+"/dir", 0o755)
	if err := strangers(t, dir).check(dir, false); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("a directory of another user: %v", err)
	}
	if err := (trust{user: 1, others: 65534}).check("/", false); err != nil {
		t.Errorf("root's directory: %v", err)
	}
	if os.Geteuid() != 0 || strangers(t, dir).user != 0 {
		return // the rest has to be another user's indeed
	}
	link := base + "/link"
	if err := errors.Join(os.Mkdir(base+"/ours", 0o700), os.Symlink("ours", link)); err != nil {
		t.Fatal(err)
	}
	strangers(t, link)
	if _, err := Open(link, 0o700, Private); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link of another user: %v", err)
	}
	root := openRoot(t, base+"/ours")
	write(t, base+"/ours/file", "theirs")
	strangers(t, base+"/ours/file")
	if _, err := OpenFile(root, "file", os.O_RDWR, 0); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a file of another user: %v", err)
	}
}

// TestWriters: a group that is not this user's alone counts as others.
func TestWriters(t *testing.T) {
	dir := makeDir(t, t.TempDir(), 0o770)
	info, err := os.Lstat(dir)
	if err != nil {
		t.Fatal(err)
	}
	gid := uint32(os.Getegid())
	if who := (trust{user: Owner(info), others: -1}).writers(info); (who == "") != (gid == 0 || gid == Owner(info)) {
		t.Errorf("group %d of user %d: %q", gid, Owner(info), who)
	}
	if who := (trust{user: Owner(info) + 1, others: -1}).writers(info); (who == "") != (gid == 0) {
		t.Errorf("group %d of another user: %q", gid, who)
	}
}

func openRoot(t *testing.T, path string) *os.Root {
	t.Helper()
	root, err := Open(path, 0o700, Private)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFiles: what stands in the place of a file and leads elsewhere is refused, or replaced, and
// what it leads to stays as it is.
func TestFiles(t *testing.T) {
	base := makeDir(t, t.TempDir(), 0o755)
	victim := base + "/victim"
	root := openRoot(t, base+"/dir")
	for _, c := range []struct {
		name  string
		plant func(path string) error
	}{
		{"a symbolic link out", func(p string) error { return os.Symlink(victim, p) }},
		{"a symbolic link within", func(p string) error { return os.Symlink("other", p) }},
		{"a hard link", func(p string) error { return os.Link(victim, p) }},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o700) }},
	} {
		write(t, victim, "untouched")
		write(t, base+"/dir/other", "untouched")
		path := base + "/dir/file"
		if err := c.plant(path); err != nil {
			t.Fatal(err)
		}
		if f, err := OpenFile(root, "file", os.O_RDWR|os.O_TRUNC|os.O_CREATE, 0o600); !errors.Is(err, ErrUntrusted) {
			t.Errorf("OpenFile over %s: %v, %v", c.name, f, err)
		}
		f, err := Create(root, "file", os.O_WRONLY, 0o600)
		if err != nil {
			t.Errorf("Create over %s: %v", c.name, err)
		} else {
			_, err = f.WriteString("ours")
			if err = errors.Join(err, f.Close(), root.Remove("file")); err != nil {
				t.Error(err)
			}
		}
		for _, name := range []string{victim, base + "/dir/other"} {
			if text, _ := os.ReadFile(name); string(text) != "untouched" {
				t.Errorf("%s: %s has %q", c.name, name, text)
			}
		}
	}
}
