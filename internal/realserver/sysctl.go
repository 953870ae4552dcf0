package realserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sysctl is a setting under net.SCOPE.conf. Of arp_ignore, arp_announce and rp_filter the kernel
// goes by the larger of "all" and the interface's own (IN_DEV_MAXCONF in
// include/linux/inetdevice.h).
type sysctl struct {
	scope, iface, key string
	want              string
	ok                []string // values that will do
	ownOnly           bool     // set the interface's own, not "all"
	alone             bool     // "all" has no part in it
	why               string
}

// name is how sysctl(8) calls the setting of an interface; a dot in the interface's name makes it
// use slashes.
func (s *sysctl) name(iface string) string {
	if strings.Contains(iface, ".") {
		return "net/" + s.scope + "/conf/" + iface + "/" + s.key
	}
	return "net." + s.scope + ".conf." + iface + "." + s.key
}

// path is where the kernel has a setting of that name.
func path(name string) string {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	return filepath.Join("/proc/sys", name)
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: no such setting or interface", name)
	}
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(name, value string) error {
	err := os.WriteFile(path(name), []byte(value), 0o644)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w: root is needed, or CAP_NET_ADMIN over this network namespace", name, err)
	}
	return err
}

// read returns the value of "all", that of the interface, and the one that counts.
func (s *sysctl) read() (all, own, counts string, err error) {
	if own, err = readSysctl(s.name(s.iface)); err != nil || s.alone {
		return "", own, own, err
	}
	if all, err = readSysctl(s.name("all")); err != nil {
		return "", "", "", err
	}
	a, err1 := strconv.Atoi(all)
	o, err2 := strconv.Atoi(own)
	if err := errors.Join(err1, err2); err != nil {
		return "", "", "", fmt.Errorf("%s: %w", s.name(s.iface), err)
	}
	return all, own, strconv.Itoa(max(a, o)), nil
}

func (s *sysctl) look() (state, error) {
	all, own, counts, err := s.read()
	if err != nil {
		return state{}, err
	}
	what := fmt.Sprintf("%s of %s is %s", s.key, s.iface, counts)
	if !s.alone && all != own {
		what += fmt.Sprintf(" (all: %s, %s: %s; the larger counts)", all, s.iface, own)
	}
	st := state{ok: slices.Contains(s.ok, counts), what: what}
	if !st.ok {
		st.want, st.why = fmt.Sprintf("%s = %s", s.name(s.target(own)), s.want), s.why
	}
	return st, nil
}

// target is which of the two is to be set. "all" will do unless the interface's own is larger than
// what is wanted.
func (s *sysctl) target(own string) string {
	o, _ := strconv.Atoi(own)
	w, _ := strconv.Atoi(s.want)
	if s.ownOnly || o > w {
		return s.iface
	}
	return "all"
}

func (s *sysctl) set() (change, error) {
	all, own, _, err := s.read()
	if err != nil {
		return change{}, err
	}
	target, was := s.target(own), all
	if target == s.iface {
		was = own
	}
	name := s.name(target)
	return change{Kind: kindSysctl, Key: name, Was: was, Set: s.want}, writeSysctl(name, s.want)
}

// setting is what sysctl.d(5) and sysctl(8) take.
func (s *sysctl) setting() string {
	if s.ownOnly {
		return s.name(s.iface) + "=" + s.want
	}
	return s.name("all") + "=" + s.want
}

// command sets what set would on a host where nothing was set before.
func (s *sysctl) command() string { return "sysctl -w " + s.setting() }
