package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shunt/api"
)

// A peer is a forwarder that is measured.
type peer struct {
	name    string
	install string   // how to have it, if it is not ours
	program string   // looked up on PATH
	args    []string // of its process; none if the kernel does it
	version []string // arguments that make it tell its version
	cpu     int      // the processor that its process is held on; -1: it chooses itself
	tcp     bool     // measured with real TCP too,
	onlyTCP bool     // or with nothing else
	shunt   bool
	// lost tells how many frames it says that it has lost; nil if it cannot tell.
	lost func() (uint64, error)
	// rules, if any, are given to nft in the director, and taken away again.
	rules string
}

const (
	shuntName = "shunt"
	bareName  = "bare loop"
	bareGSO   = "bare loop with offloads"
	testpmd   = "testpmd"
	netsniff  = "netsniff-ng"
	nftName   = "nftables fwd"
)

// peers lists all that could be measured. dir has room for their files.
func peers(opt Options, dir string) ([]peer, error) {
	socket := filepath.Join(dir, "shunt.sock")
	shunt := func(name, program, ring string) (peer, error) {
		config := filepath.Join(dir, name+".yaml")
		return peer{name: name, program: program, args: []string{"run", "-c", config}, version: []string{"--version"}, cpu: forwarderCPU,
			tcp: true, shunt: true, lost: func() (uint64, error) { return shuntLost(socket) }}, os.WriteFile(config, []byte(shuntConfig(socket, ring)), 0o644)
	}
	first, err := shunt(shuntName, opt.Shunt, opt.Ring)
	if err != nil {
		return nil, err
	}
	list := []peer{first}
	for _, s := range opt.Also {
		name, rest, found := strings.Cut(s, "=")
		if !found || name == "" || strings.ContainsRune(name, '/') {
			return nil, fmt.Errorf("another build %q: write it as name=program, or name=program {busy: latency}", s)
		}
		program, ring, _ := strings.Cut(rest, " ")
		p, err := shunt(name, program, ring)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return append(list, []peer{
		{name: bareName, program: opt.Self, args: []string{"bareloop", "--in", "eth0", "--out", "eth1", "--vip", vip, "--mac", realMAC}, cpu: forwarderCPU},
		{name: bareGSO, program: opt.Self, args: []string{"bareloop", "--offloads", "--in", "eth0", "--out", "eth1", "--vip", vip, "--mac", realMAC},
			cpu: -1, tcp: true, onlyTCP: true},
		{name: testpmd, install: "apt-get install dpdk dpdk-dev", program: "dpdk-testpmd", version: []string{"--version"}, cpu: -1,
			args: strings.Fields("--no-huge -m 1024 --no-pci --no-telemetry --lcores 0@0,1@1 --vdev=net_af_packet0,iface=eth0,qdisc_bypass=1 " +
				"--vdev=net_af_packet1,iface=eth1,qdisc_bypass=1 -- --total-num-mbufs=16384 --forward-mode=mac --eth-peer=1," + realMAC)},
		{name: netsniff, install: "apt-get install netsniff-ng", program: "netsniff-ng", args: strings.Fields("--in eth0 --out eth1 -s -S 2MiB -M"),
			version: []string{"-v"}, cpu: forwarderCPU},
		{name: nftName, install: "apt-get install nftables", program: "nft", version: []string{"--version"}, tcp: true, rules: fmt.Sprintf(
			"table netdev peer {\nchain in {\ntype filter hook ingress device eth0 priority 0\nip daddr %s tcp dport 80 "+
				"ether daddr set jhash ip saddr . tcp sport mod 2 map { 0: %s, 1: %s } fwd to eth1\n}\n}\n", vip, realMAC, realMAC)},
	}...), nil
}

// shuntConfig has the settings that everybody has: all defaults but the socket, unless others are
// asked for.
func shuntConfig(socket, ring string) string {
	if ring == "" {
		ring = "{}"
	}
	return fmt.Sprintf(`legs:
  - interface: eth0
  - interface: eth1
control: {socket: %s}
log: {level: warn, format: text}
ring: %s
services:
  - {address: %s, port: 80, scheduler: wlc, realservers: [{address: %s, mac: "%s"}]}
`, socket, ring, vip, rip, realMAC)
}

// ringsLost is how many frames the rings of a director did not take.
func ringsLost(s *api.Status) (n uint64) {
	for i := range s.Legs {
		n += s.Legs[i].RingFull
	}
	return n
}

// askShunt asks the running director for its status.
func askShunt(socket string) (api.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return api.NewClient(socket).Status(ctx)
}

// shuntLost asks the running director for the frames that it took note of losing.
func shuntLost(socket string) (uint64, error) {
	s, err := askShunt(socket)
	if err != nil {
		return 0, err
	}
	n := ringsLost(&s)
	for name, v := range s.Verdicts {
		if name != "forwarded" {
			n += v
		}
	}
	return n, nil
}

// A running peer.
type running struct {
	peer
	lab   *lab
	cmd   *exec.Cmd
	stdin io.Closer
	out   *tail
	died  chan error
}

// tail keeps the end of what a process says.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - 2048; n > 0 {
		t.b = t.b[n:]
	}
	return len(p), nil
}

// launch starts p in the director. cpu overrides the processor it is held on, where -1 lets it use
// both.
func (l *lab) launch(p peer, cpu int) (*running, error) {
	r := &running{peer: p, lab: l, out: &tail{}, died: make(chan error, 1)}
	if p.rules != "" {
		cmd := exec.Command(p.program, "-f", "-")
		cmd.Stdin, cmd.Stderr, cmd.Stdout = strings.NewReader(p.rules), r.out, r.out
		if err := l.director.Start(cmd); err != nil {
			return nil, err
		}
		if err := cmd.Wait(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", p.name, err, r.out.b)
		}
		return r, nil
	}
	r.cmd = exec.Command(p.program, p.args...)
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil { // testpmd ends with its input
		return nil, err
	}
	if err := start(l.director, cpu, r.cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	go func() { r.died <- r.cmd.Wait() }()
	if err := l.await(r); err != nil {
		_ = r.stop()
		return nil, err
	}
	return r, nil
}

// await sends frames until one comes through: testpmd takes its time.
func (l *lab) await(r *running) error {
	fd, b, err := l.knock()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, before, err := l.wires()
	if err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err := unix.Write(fd, b); err != nil {
			return fmt.Errorf("send a frame: %w", err)
		}
		select {
		case err := <-r.died:
			r.died <- err
			return fmt.Errorf("%s ended at once: %v: %s", r.name, err, r.out.b)
		case <-time.After(100 * time.Millisecond):
		}
		if _, got, err := l.wires(); err != nil || got > before {
			time.Sleep(300 * time.Millisecond) // what is still to be set up
			return err
		}
	}
	return fmt.Errorf("%s: nothing comes through; it says: %s", r.name, r.out.b)
}

// used is the CPU time of the process so far, in seconds.
func (r *running) used() (float64, error) {
	if r.cmd == nil {
		return 0, nil
	}
	return cpuTime(r.cmd.Process.Pid)
}

// stop ends it.
func (r *running) stop() error {
	if r.cmd == nil {
		cmd := exec.Command(r.program, "delete", "table", "netdev", "peer")
		if err := r.lab.director.Start(cmd); err != nil {
			return err
		}
		return cmd.Wait()
	}
	_ = r.cmd.Process.Signal(os.Interrupt)
	select {
	case <-r.died:
		return nil
	case <-time.After(5 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.died
		return errors.New(r.name + " did not end in time")
	}
}

// versionOf asks an installed program for its version: the first line that has a digit.
func versionOf(p peer) string {
	if len(p.version) == 0 {
		return ""
	}
	out, _ := exec.Command(p.program, p.version...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.ContainsAny(line, "0123456789") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
