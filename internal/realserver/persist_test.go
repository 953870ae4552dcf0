package realserver

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/internal/netlab"
)

// tree reads all files below a folder; a link is told by its target.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, root)
		if d.Type()&fs.ModeSymlink != 0 {
			out[name], err = os.Readlink(path)
			return err
		}
		b, err := os.ReadFile(path)
		out[name] = string(b)
		return err
	}))
	return out
}

func put(t *testing.T, root, path, text string) {
	t.Helper()
	at := filepath.Join(root, path)
	check(t, os.MkdirAll(filepath.Dir(at), 0o755))
	check(t, os.WriteFile(at, []byte(text), 0o644))
}

// roots make a folder look like a host of a kind.
var roots = map[string]func(t *testing.T, root string){
	persistSystemd: func(t *testing.T, root string) { check(t, os.MkdirAll(root+"/etc/systemd/system", 0o755)) },
	persistIfupdown: func(t *testing.T, root string) {
		check(t, os.MkdirAll(root+"/etc/systemd/system", 0o755))
		check(t, os.MkdirAll(root+"/etc/network/if-up.d", 0o755))
		put(t, root, "/etc/network/interfaces", "auto lo\niface lo inet loopback\n")
		put(t, root, "/etc/network/interfaces.d/eth0", "iface eth0 inet dhcp\n")
	},
	persistNetworkd: func(t *testing.T, root string) {
		check(t, os.MkdirAll(root+"/etc/systemd/system", 0o755))
		put(t, root, "/sys/class/net/eth0/ifindex", "7\n")
		put(t, root, "/run/systemd/netif/links/7", "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/20-wired.network\n")
	},
}

// persistent runs apply for a folder.
func persistent(t *testing.T, h *netlab.Host, root, method string, dry bool) (string, error) {
	t.Helper()
	var out bytes.Buffer
	o := Options{Out: &out, State: filepath.Join(t.TempDir(), "state"), Persist: method, Root: root}
	check(t, o.Parse([]string{vip4, vip6}, []string{gw4, gw6}))
	err := h.Do(func() error { return Apply(o, dry) })
	return out.String(), err
}

// What the host has is found, its files are written, a dry run shows the commands that do the same,
// a second time changes nothing, and remove leaves the host as it was. The host itself is not
// changed.
func TestPersist(t *testing.T) {
	for method, make := range roots {
		t.Run(method, func(t *testing.T) {
			h := host(t)
			host := snapshot(t, h)
			root, other := t.TempDir(), t.TempDir()
			make(t, root)
			make(t, other)
			before := tree(t, root)
			said, err := persistent(t, h, root, persistAuto, true)
			check(t, err)
			if d := cmp.Diff(before, tree(t, root)); d != "" {
				t.Errorf("the dry run changed:\n%s", d)
			}
			sh := exec.Command("sh", "-e", "-s")
			sh.Stdin = strings.NewReader(strings.ReplaceAll(said, root, other))
			if b, err := sh.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, b, said)
			}
			for range 2 {
				_, err = persistent(t, h, root, persistAuto, false)
				check(t, err)
			}
			after := tree(t, root)
			if d := cmp.Diff(after, tree(t, other)); d != "" {
				t.Errorf("the commands of the dry run make something else:\n%s", d)
			}
			checkFiles(t, method, after)
			if d := cmp.Diff(host, snapshot(t, h)); d != "" {
				t.Errorf("the host itself changed:\n%s", d)
			}
			check(t, Remove(Options{Out: new(bytes.Buffer), Root: root}))
			if d := cmp.Diff(before, tree(t, root)); d != "" {
				t.Errorf("remove left, or took too much:\n%s", d)
			}
		})
	}
}

// checkFiles looks for what matters in the files of a method.
func checkFiles(t *testing.T, method string, files map[string]string) {
	t.Helper()
	want := map[string]map[string][]string{
		persistSystemd: {
			unitPath: {"Type=oneshot", "ExecStart=/bin/sh " + scriptPath}, wantsPath: {"../shunt-realserver.service"},
			scriptPath: {"sysctl -w net.ipv4.conf.all.arp_ignore=1", "ip addr replace 192.168.10.100/32 dev lo", "ip route replace default via 10.10.0.1 dev eth0"},
		},
		persistIfupdown: {ifupPath: {"case \"$IFACE\" in\neth0) ;;", "ip -6 route replace default via fd00:10::1 dev eth0 metric 1"}},
		persistNetworkd: {
			sysctlPath: {"net.ipv4.conf.all.arp_announce=2\n", "net.ipv4.conf.eth0.rp_filter=2\n"},
			loPath:     {"Name=lo\n", "Address=192.168.10.100/32\n", "Address=2001:db8:10::100/128\nDuplicateAddressDetection=none\n"},
			"/etc/systemd/network/20-wired.network.d/" + dropIn: {"Gateway=10.10.0.1\n", "Gateway=fd00:10::1\nMetric=1\n"},
		},
	}[method]
	for path, texts := range want {
		for _, text := range texts {
			if !strings.Contains(files[path], text) {
				t.Errorf("%s lacks %q:\n%s", path, text, files[path])
			}
		}
	}
}

// The script that is run at boot makes a realserver: of ifupdown for its interface only.
func TestPersistedScript(t *testing.T) {
	for _, method := range []string{persistSystemd, persistIfupdown} {
		h := host(t)
		root := t.TempDir()
		roots[method](t, root)
		_, err := persistent(t, h, root, method, false)
		check(t, err)
		path := map[string]string{persistSystemd: scriptPath, persistIfupdown: ifupPath}[method]
		for _, iface := range []string{"lo", "eth0"} {
			before := snapshot(t, h)
			cmd := exec.Command("/bin/sh", root+path)
			cmd.Env = append(os.Environ(), "IFACE="+iface)
			check(t, h.Start(cmd))
			check(t, cmd.Wait())
			if method == persistIfupdown && iface == "lo" {
				if d := cmp.Diff(before, snapshot(t, h)); d != "" {
					t.Errorf("for lo it changed:\n%s", d)
				}
			}
		}
		var out bytes.Buffer
		o := both(t, &out)
		if err := h.Do(func() error { return Check(o) }); err != nil {
			t.Errorf("%s: %v\n%s", method, err, out.String())
		}
	}
}

// What somebody else wrote is neither replaced nor removed, and a host that has nothing to persist
// by is told so.
func TestPersistRefuses(t *testing.T) {
	h := host(t)
	root := t.TempDir()
	if _, err := persistent(t, h, root, persistAuto, false); err == nil || !strings.Contains(err.Error(), "neither systemd nor ifupdown") {
		t.Errorf("an empty host: %v", err)
	}
	roots[persistSystemd](t, root)
	put(t, root, unitPath, "[Unit]\nDescription=mine\n")
	before := tree(t, root)
	if _, err := persistent(t, h, root, persistAuto, false); err == nil || !strings.Contains(err.Error(), "was not written by shunt") {
		t.Errorf("a unit of somebody else: %v", err)
	}
	var out bytes.Buffer
	check(t, Remove(Options{Out: &out, Root: root}))
	if d := cmp.Diff(before, tree(t, root)); d != "" || !strings.Contains(out.String(), "[left]") {
		t.Errorf("remove: %s%s", out.String(), d)
	}
	if _, err := persistent(t, h, root, persistNetworkd, false); err == nil || !strings.Contains(err.Error(), "does not configure eth0") {
		t.Errorf("networkd: %v", err)
	}
	if _, err := namespace("1"); err != nil {
		return // only root may see where the host starts
	}
	if _, err := persistent(t, h, "", persistAuto, true); err == nil || !strings.Contains(err.Error(), "not the network namespace in which the host starts") {
		t.Errorf("in a namespace: %v", err)
	}
}

// Two realservers in namespaces of one host have each its own file of previous values.
func TestStateOfNamespace(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		check(t, host(t).Do(func() error { seen[DefaultState()] = true; return nil }))
	}
	if seen[DefaultState()] = true; len(seen) != 3 {
		t.Errorf("three namespaces have %v", seen)
	}
	for path := range seen {
		if !strings.HasPrefix(path, "/run/shunt-realserver") || !strings.HasSuffix(path, ".json") {
			t.Errorf("the file is %s", path)
		}
	}
}
