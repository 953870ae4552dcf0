package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runRoot names the folder in which each laboratory has a folder of its own. It is found by `shunt
// lab exec` from another terminal, so it depends on the user alone: the user outside of a user
// namespace.
const runRoot = "SHUNT_LAB_RUN"

// Prepare records the user of this process, before netlab.Privileged may make it root of a user
// namespace.
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
		return "", fmt.Errorf("%s is not a directory of shunt lab: remove it, or set TMPDIR", dir)
	}
	return dir, nil
}

// newRunDir makes the folder of this run, and removes those that crashed runs left. Their networks
// went with them. The name of the run is the one wanted, with a number behind it if a laboratory of
// that name stands.
func newRunDir(wanted string) (path, name string, err error) {
	dir, err := root()
	if err != nil {
		return "", "", err
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return "", "", err
	}
	taken := map[string]bool{}
	for _, e := range old {
		if path := filepath.Join(dir, e.Name()); alive(path) {
			taken[readCard(path).Name] = true
		} else {
			_ = os.RemoveAll(path)
		}
	}
	name = wanted
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", wanted, n)
	}
	if path, err = os.MkdirTemp(dir, strconv.Itoa(os.Getpid())+"-"); err != nil {
		return "", "", err
	}
	return path, name, writeCard(path, Card{Name: name, PID: os.Getpid()})
}

// A Card identifies the lab of a run directory.
type Card struct {
	Name  string
	PID   int
	Hosts []string // none before the laboratory stands
}

const cardFile = "card.json"

func readCard(dir string) (c Card) {
	b, err := os.ReadFile(filepath.Join(dir, cardFile))
	if err == nil {
		_ = json.Unmarshal(b, &c) // without one it has no name
	}
	return c
}

// writeCard replaces the card as a whole.
func writeCard(dir string, c Card) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, cardFile)
	return errors.Join(os.WriteFile(path+".new", b, 0o600), os.Rename(path+".new", path))
}

// alive reports whether somebody still holds the folder of a run. Process numbers of user
// namespaces are the same as outside, as no namespace of processes is made.
func alive(path string) bool {
	var pid int
	if _, err := fmt.Sscanf(filepath.Base(path), "%d-", &pid); err != nil {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// Standing lists the running labs by name.
func Standing() ([]Card, error) {
	all, err := standing()
	var out []Card
	for _, l := range all {
		l.conn.Close()
		out = append(out, l.Card)
	}
	return out, err
}

// laboratory is one that stands and answers.
type laboratory struct {
	Card
	conn *net.UnixConn
}

func standing() (out []laboratory, err error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	sockets, err := filepath.Glob(filepath.Join(dir, "*", execSocket))
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		if c, err := net.DialTimeout("unix", s, time.Second); err == nil {
			out = append(out, laboratory{readCard(filepath.Dir(s)), c.(*net.UnixConn)})
		}
	}
	slices.SortFunc(out, func(a, b laboratory) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// NameVariable is the environment variable with the name of the lab. It is set on the hosts of each
// lab.
const NameVariable = "SHUNT_LAB"

// find returns a connection to the laboratory of a name; without a name, to the only one.
func find(name string) (*net.UnixConn, error) {
	all, err := standing()
	if err != nil {
		return nil, err
	}
	var found []laboratory
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
		if name == "" || l.Name == name {
			found = append(found, l)
		} else {
			l.conn.Close()
		}
	}
	switch {
	case len(found) == 1:
		return found[0].conn, nil
	case len(all) == 0:
		return nil, errors.New("no lab is running: start one by `shunt lab --keep` in another terminal")
	case len(found) == 0:
		return nil, fmt.Errorf("unknown lab %q: the labs are %s", name, strings.Join(names, ", "))
	}
	for _, l := range found {
		l.conn.Close()
	}
	return nil, fmt.Errorf("several labs are running: %s; name one by --lab", strings.Join(names, ", "))
}
