package netlab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Host is a network namespace, with a thread in it. All methods are safe for concurrent use.
type Host struct {
	Name string
	ns   netns.NsHandle
	nl   *netlink.Handle
	work chan task
	quit chan struct{}
	done chan struct{}

	mu       sync.Mutex
	children []*exec.Cmd
	closers  []func()
}

type task struct {
	fn  func() error
	err chan error
}

// A Net is a set of hosts that end together.
type Net struct {
	mu    sync.Mutex
	hosts []*Host
}

// New returns a network without hosts.
func New() *Net { return &Net{} }

// Host adds a host whose loopback is up.
func (n *Net) Host(name string) (*Host, error) {
	h := &Host{Name: name, work: make(chan task), quit: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan error)
	go h.live(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	n.mu.Lock()
	n.hosts = append(n.hosts, h)
	n.mu.Unlock()
	// No router solicitations, no MLD: quiet wires are easier to read. A kernel without IPv6 has no
	// such key.
	_ = h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
	_ = h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
	lo, err := h.nl.LinkByName("lo")
	if err == nil {
		err = h.nl.LinkSetUp(lo)
	}
	if err != nil {
		return nil, fmt.Errorf("host %s: lo: %w", name, err)
	}
	return h, nil
}

// live is the host's thread. It ends with the host, and is not used for anything else: the runtime
// ends a thread whose goroutine was locked to it.
func (h *Host) live(ready chan<- error) {
	runtime.LockOSThread()
	defer close(h.done)
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		h.ns, err = netns.Get()
	}
	if err == nil {
		h.nl, err = netlink.NewHandleAt(h.ns)
	}
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case t := <-h.work:
			t.err <- t.fn()
		case <-h.quit:
			return
		}
	}
}

// Do runs fn on the host's thread. Sockets, commands and files below /proc/sys/net opened by fn
// belong to the host's namespace.
func (h *Host) Do(fn func() error) error {
	t := task{fn, make(chan error, 1)}
	select {
	case h.work <- t:
		return <-t.err
	case <-h.done:
		return fmt.Errorf("host %s has ended", h.Name)
	}
}

// Netlink returns a handle for the host's interfaces, addresses and routes.
func (h *Host) Netlink() *netlink.Handle { return h.nl }

// Sysctl sets a kernel setting of the host, such as net.ipv4.ip_forward.
func (h *Host) Sysctl(key, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	err := h.Do(func() error { return os.WriteFile(path, []byte(value), 0o644) })
	if errors.Is(err, unix.EROFS) {
		err = fmt.Errorf("%w: /proc/sys is mounted read-only here, as in many containers; run the container privileged", err)
	}
	return err
}

// Start starts a command on the host. The command is killed at the latest when the host ends.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // of the thread that started it, which is the host's
	if err := h.Do(cmd.Start); err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	h.mu.Lock()
	h.children = append(h.children, cmd)
	h.mu.Unlock()
	return nil
}

// Listen listens on the host.
func (h *Host) Listen(network, address string) (ln net.Listener, err error) {
	err = h.Do(func() (err error) { ln, err = net.Listen(network, address); return err })
	return ln, err
}

// ListenPacket is net.ListenPacket on the host.
func (h *Host) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = h.Do(func() (err error) { c, err = net.ListenPacket(network, address); return err })
	return c, err
}

// Dial connects from the host to a numeric address.
func (h *Host) Dial(d *net.Dialer, network, address string) (c net.Conn, err error) {
	// A socket belongs to the namespace of the thread that makes it; connecting may then take its
	// time elsewhere. With an address that is a number, net does both in one goroutine.
	err = h.Do(func() (err error) { c, err = d.Dial(network, address); return err })
	return c, err
}

// onClose has fn called when the host ends.
func (h *Host) onClose(fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closers = append(h.closers, fn)
}

// end ends the host's commands and its thread.
func (h *Host) end() {
	h.mu.Lock()
	children, closers := h.children, h.closers
	h.children, h.closers = nil, nil
	h.mu.Unlock()
	for _, fn := range closers {
		fn()
	}
	for _, c := range children {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
		}
	}
	close(h.quit)
	<-h.done
	h.nl.Close()
	_ = h.ns.Close()
}

// Close removes all hosts and their resources.
func (n *Net) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := len(n.hosts) - 1; i >= 0; i-- {
		n.hosts[i].end()
	}
	n.hosts = nil
}
