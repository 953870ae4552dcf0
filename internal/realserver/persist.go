package realserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// How a host is made a realserver at each boot.
const (
	persistAuto     = "auto"     // the first of the others that looks after one of the interfaces, or else systemd
	persistNetworkd = "networkd" // files of systemd-networkd, for it takes away routes that it does not know
	persistIfupdown = "ifupdown" // a script of /etc/network/if-up.d
	persistSystemd  = "systemd"  // a unit that runs a script
)

// Methods lists the values of Options.Persist.
var Methods = []string{persistAuto, persistNetworkd, persistIfupdown, persistSystemd}

// mark is in each file that is written: none without it is replaced or removed.
const mark = "# Written by `shunt realserver apply --persist`; `shunt realserver remove` takes it away.\n"

// Paths of what is written, whatever the method.
const (
	scriptPath = "/etc/shunt-realserver.sh"
	unitPath   = "/etc/systemd/system/shunt-realserver.service"
	wantsPath  = "/etc/systemd/system/multi-user.target.wants/shunt-realserver.service"
	ifupPath   = "/etc/network/if-up.d/shunt-realserver"
	sysctlPath = "/etc/sysctl.d/90-shunt-realserver.conf"
	loPath     = "/etc/systemd/network/05-shunt-realserver-lo.network"
	dropIn     = "50-shunt-realserver.conf" // in NAME.network.d
)

// A file is one that makes the host a realserver at each boot.
type file struct {
	path string
	text string // of a symbolic link its target
	mode fs.FileMode
}

const linkMode = fs.ModeSymlink | 0o777

// method finds which one the host has, if none was named.
func (o *Options) method() (string, error) {
	if o.Persist != persistAuto {
		return o.Persist, nil
	}
	all := append(slices.Clone(o.Interfaces), o.arp...)
	switch {
	case slices.ContainsFunc(all, func(name string) bool { return o.networkFile(name) != "" }):
		return persistNetworkd, nil
	case o.exists("etc/network/if-up.d") && slices.ContainsFunc(all, o.ifupHas):
		return persistIfupdown, nil
	case o.exists("run/systemd/system"), o.Root != "" && o.exists("etc/systemd/system"):
		return persistSystemd, nil
	case o.exists("etc/network/if-up.d"):
		return persistIfupdown, nil
	}
	return "", errors.New("--persist: this host has neither systemd nor ifupdown: run the output of `shunt realserver apply --interface NAME --script` at boot")
}

func (o *Options) at(path string) string { return filepath.Join("/", o.Root, path) }

func (o *Options) exists(path string) bool {
	_, err := os.Stat(o.at(path))
	return err == nil
}

// networkFile is the file by which systemd-networkd configures an interface; "" if it does not.
func (o *Options) networkFile(name string) string {
	index, err := os.ReadFile(o.at("/sys/class/net/" + name + "/ifindex"))
	if err != nil {
		return ""
	}
	state, err := os.ReadFile(o.at("/run/systemd/netif/links/" + strings.TrimSpace(string(index))))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(state)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "NETWORK_FILE="); ok {
			return filepath.Base(path)
		}
	}
	return ""
}

// ifupHas reports whether ifupdown has a stanza for an interface (interfaces(5)).
func (o *Options) ifupHas(name string) bool {
	paths, _ := filepath.Glob(o.at("/etc/network/interfaces.d/*"))
	for _, path := range append(paths, o.at("/etc/network/interfaces")) {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
			if f := strings.Fields(s.Text()); len(f) > 1 && f[0] == "iface" && f[1] == name {
				return true
			}
		}
	}
	return false
}

// files are what a method consists of.
func (o *Options) files(method string) ([]file, error) {
	script := o.script(true)
	switch method {
	case persistSystemd:
		return []file{{scriptPath, script, 0o755}, {unitPath, unit, 0o644}, {wantsPath, "../shunt-realserver.service", linkMode}}, nil
	case persistIfupdown:
		names := strings.Join(slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(o.arp), o.Interfaces...)))), "|")
		only := "case \"$IFACE\" in\n" + names + ") ;;\n*) exit 0 ;;\nesac\n"
		return []file{{ifupPath, strings.Replace(script, "set -e\n", only+"set -e\n", 1), 0o755}}, nil
	case persistNetworkd:
		return o.networkdFiles()
	}
	return nil, fmt.Errorf("--persist %q: write %s", method, strings.Join(Methods, ", "))
}

// unit runs the script after the network is there: the route needs its interface.
const unit = mark + `[Unit]
Description=Realserver of direct routing: virtual addresses, ARP, default route
Documentation=man:shunt-realserver-apply(8)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh ` + scriptPath + `

[Install]
WantedBy=multi-user.target
`

// networkdFiles are the addresses and the route in the language of systemd.network(5), and the
// settings for systemd-sysctl.
func (o *Options) networkdFiles() ([]file, error) {
	sysctls, lo := mark, mark+"[Match]\nName=lo\n"
	routes := map[string]string{}
	for _, s := range o.steps() {
		switch x := s.(type) {
		case *sysctl:
			line := x.setting() + "\n"
			if !strings.Contains(sysctls, line) {
				sysctls += line
			}
		case *address:
			lo += fmt.Sprintf("\n[Address]\nAddress=%s\n", x.prefix())
			if x.vip.Is6() {
				lo += "DuplicateAddressDetection=none\n"
			}
		case *route:
			name := o.networkFile(x.iface)
			if name == "" {
				return nil, fmt.Errorf("--persist networkd: systemd-networkd does not configure %s, the interface to the gateway %s; use --persist systemd", x.iface, x.gateway)
			}
			path := "/etc/systemd/network/" + name + ".d/" + dropIn
			if routes[path] == "" {
				routes[path] = mark
			}
			routes[path] += fmt.Sprintf("[Route]\nGateway=%s\n", x.gateway)
			if m := x.metric(); m != 0 {
				routes[path] += fmt.Sprintf("Metric=%d\n", m)
			}
		}
	}
	out := []file{{sysctlPath, sysctls, 0o644}, {loPath, lo, 0o644}}
	for path, text := range routes {
		out = append(out, file{path, text, 0o644})
	}
	slices.SortFunc(out, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return out, nil
}

// persist returns what is to be written, and refuses what is not ours.
func (o *Options) persist() (method string, files []file, err error) {
	if o.Root == "" && foreignNamespace() {
		return "", nil, errors.New("--persist: this is not the host's initial network namespace: run `shunt realserver apply` where the namespace is created at boot")
	}
	for _, name := range append(slices.Clone(o.arp), o.Interfaces...) {
		if err := plainName(name); err != nil {
			return "", nil, err
		}
	}
	if method, err = o.method(); err != nil {
		return "", nil, err
	}
	if files, err = o.files(method); err != nil {
		return "", nil, err
	}
	for _, f := range files {
		if err := o.mine(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("--persist: %w; nothing was changed", err)
		}
	}
	return method, files, nil
}

// mine returns nil if the file at path was written by persist.
func (o *Options) mine(path string) error {
	at := o.at(path)
	if path == wantsPath {
		_, err := os.Lstat(at)
		return err
	}
	b, err := os.ReadFile(at)
	if err != nil {
		return err
	}
	if !bytes.Contains(b, []byte(mark)) {
		return fmt.Errorf("%s was not written by shunt: move it away first", at)
	}
	return nil
}

// write puts a file in its place as a whole.
func (o *Options) write(f *file) error {
	at := o.at(f.path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	tmp := at + ".new"
	_ = os.Remove(tmp)
	var err error
	if f.mode&fs.ModeSymlink != 0 {
		err = os.Symlink(f.text, tmp)
	} else {
		err = errors.Join(os.WriteFile(tmp, []byte(f.text), f.mode), os.Chmod(tmp, f.mode))
	}
	if err == nil {
		err = os.Rename(tmp, at)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// makePersistent writes the files, or with dry the commands that do.
func (o *Options) makePersistent(method string, files []file, dry bool) error {
	for _, f := range files {
		if dry {
			fmt.Fprint(o.Out, f.commands(o.at(f.path)))
			continue
		}
		if err := o.write(&f); err != nil {
			return fmt.Errorf("--persist %s: %w", method, err)
		}
		fmt.Fprintf(o.Out, "[set] %s, for the next boot (%s)\n", o.at(f.path), method)
	}
	if !dry {
		o.tellSystemd()
	}
	return nil
}

// commands write the file in sh.
func (f *file) commands(at string) string {
	dir := fmt.Sprintf("mkdir -p %s\n", filepath.Dir(at))
	if f.mode&fs.ModeSymlink != 0 {
		return dir + fmt.Sprintf("ln -sfn %s %s\n", f.text, at)
	}
	return dir + fmt.Sprintf("cat > %s <<'SHUNT_END'\n%sSHUNT_END\nchmod %o %s\n", at, f.text, f.mode, at)
}

// tellSystemd has the running systemd read its units again; at the next boot it does so anyway.
func (o *Options) tellSystemd() {
	if o.Root == "" && o.exists("run/systemd/system") {
		_ = exec.Command("systemctl", "daemon-reload").Run()
	}
}

// Remove deletes the files that configure the host at boot, then undoes the changes of Apply.
func Remove(o Options) error {
	paths, _ := filepath.Glob(o.at("/etc/systemd/network/*.network.d/" + dropIn))
	for i := range paths {
		rel, err := filepath.Rel(o.at("/"), paths[i])
		if err != nil {
			return err
		}
		paths[i] = "/" + rel
	}
	removed := 0
	for _, path := range append([]string{wantsPath, unitPath, scriptPath, ifupPath, sysctlPath, loPath}, paths...) {
		switch err := o.mine(path); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			fmt.Fprintf(o.Out, "[left] %v\n", err)
			continue
		}
		if err := os.Remove(o.at(path)); err != nil {
			return err
		}
		if strings.HasSuffix(filepath.Dir(path), ".network.d") {
			_ = os.Remove(o.at(filepath.Dir(path))) // if nothing else is in it
		}
		removed++
		fmt.Fprintf(o.Out, "[gone] %s\n", o.at(path))
	}
	if removed == 0 {
		fmt.Fprintln(o.Out, "no files configure this host as a realserver at boot")
	}
	o.tellSystemd()
	if o.Root != "" {
		return nil
	}
	return Undo(o, nil)
}
