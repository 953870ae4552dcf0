package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"shunt/bench/afpacket"
	"shunt/bench/report"
	"shunt/bench/traffic"
)

// AttackOptions say what RunAttack does.
type AttackOptions struct {
	Shunt  string        // the program under test
	Flows  int           // places of the small table
	Rate   int           // forged frames a second
	Window time.Duration // length of each attack
	Only   []string      // these attacks only, by a part of their names
	Log    io.Writer
}

// AttackResult is what came of all attacks.
type AttackResult struct {
	Machine report.Machine
	Options AttackOptions
	Rows    []AttackRow
}

// An AttackRow is one attack on one table.
type AttackRow struct {
	Attack  string
	Full    bool    // whether the table was full before it began
	Rate    float64 // frames a second that were sent
	Answers float64 // of the director, for each frame
	Lost    uint64  // frames that the rings did not take
	Memory  [2]int  // of the process before and after, in MiB
	Survived
}

// The ports of the connections that are there before the attack, which the attacker knows, and of
// those opened beside it.
var (
	victimPorts = [2]uint16{40000, 40999}
	freshPorts  = [2]uint16{41000, 65000}
)

// localPorts is where the client's connections come from, from now on.
func (l *lab) localPorts(p [2]uint16) error {
	return l.client.Sysctl("net.ipv4.ip_local_port_range", fmt.Sprint(p[0], " ", p[1]))
}

// closeTimeout is a little more than how long a director remembers a connection that a RST has
// closed.
const closeTimeout = 11 * time.Second

// RunAttack lets real clients and one attacker after the other at the director, with a table that
// is full and one that is not.
func RunAttack(ctx context.Context, opt AttackOptions) (*AttackResult, error) {
	dir, err := os.MkdirTemp("", "shuntattack")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &AttackResult{Options: opt}
	macs := traffic.Default()
	target := traffic.Target{Src: macs.Src, Dst: macs.Dst, VIP: netip.MustParseAddr(vip), Victim: netip.MustParseAddr(clientIP), Ports: victimPorts}
	for _, full := range []bool{false, true} {
		for _, a := range traffic.Attacks(target) {
			if !opt.wants(a.Name) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			row, err := attackOnce(opt, dir, target, a, full)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.Name, err)
			}
			fmt.Fprintln(opt.Log, row.line(), row.First)
			r.Rows = append(r.Rows, row)
		}
	}
	r.Machine = report.ThisMachine()
	return r, nil
}

func (o *AttackOptions) wants(name string) bool {
	for _, part := range o.Only {
		if strings.Contains(name, part) {
			return true
		}
	}
	return len(o.Only) == 0
}

// attackOnce is one attack in a laboratory of its own.
func attackOnce(opt AttackOptions, dir string, target traffic.Target, a *traffic.Attack, full bool) (row AttackRow, err error) {
	row = AttackRow{Attack: a.Name, Full: full}
	l, err := newLab()
	if err != nil {
		return row, err
	}
	defer l.net.Close()
	if err := l.localPorts(victimPorts); err != nil {
		return row, err
	}
	flows := 1_000_000
	if full {
		flows = opt.Flows
	}
	run, err := l.launch(attacked(opt.Shunt, dir, flows), -1)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, run.stop()) }()
	if err := l.deafen(); err != nil {
		return row, err
	}
	v, err := openVictims(l)
	if v != nil {
		defer v.close()
	}
	if err != nil {
		return row, fmt.Errorf("before the attack: %w: %s", err, run.out.b)
	}
	if err := l.localPorts(freshPorts); err != nil {
		return row, err
	}
	var s *afpacket.Sender
	if err := l.client.Do(func() (err error) { s, err = afpacket.NewSender("c0"); return err }); err != nil {
		return row, err
	}
	defer s.Close()
	if full {
		fill := traffic.Attacks(target)
		for _, f := range fill {
			if f.Name == "SYN and bare ACK" {
				traffic.SendBy(s, f, 0, 0) // a first chunk, to have it begin
				rate := float64(opt.Rate)
				traffic.SendBy(s, f, rate, time.Duration(3*float64(opt.Flows)/rate*1e9))
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	err = measureAttack(opt, l, run, v, s, a, &row)
	return row, err
}

// measureAttack is the attack itself, beside the victims.
func measureAttack(opt AttackOptions, l *lab, run *running, v *victims, s *afpacket.Sender, a *traffic.Attack, row *AttackRow) error {
	lost, err := ringLost(run.socket())
	if err != nil {
		return err
	}
	row.Memory[0] = memoryOf(run.cmd.Process.Pid)
	_, before, err := packets(l.client, "c0")
	if err != nil {
		return err
	}
	sent, took, silence := uint64(0), time.Duration(0), time.Duration(0)
	switch a.Name {
	case "forged RST", "forged FIN", "forged, no flags":
		silence = closeTimeout // what it has closed is forgotten by then
	}
	row.Survived = v.live(func() {
		start := time.Now()
		sent = traffic.SendBy(s, a, float64(opt.Rate), opt.Window)
		took = time.Since(start)
	}, silence)
	_, after, err := packets(l.client, "c0")
	if err != nil {
		return err
	}
	row.Rate, row.Answers = float64(sent)/took.Seconds(), float64(after-before)/float64(sent)
	row.Memory[1] = memoryOf(run.cmd.Process.Pid)
	now, err := ringLost(run.socket())
	row.Lost = now - lost
	return err
}

// socket is the control socket of a director that attacked made.
func (r *running) socket() string { return strings.TrimSuffix(r.args[2], ".yaml") + ".sock" }

// attacked is a director whose table has so many places.
func attacked(program, dir string, flows int) peer {
	base := filepath.Join(dir, fmt.Sprint("attacked", flows))
	text := fmt.Sprintf(`legs:
  - interface: eth0
  - interface: eth1
flows: %d
state_dir: off
control: {socket: %s.sock}
log: {level: warn, format: text}
services:
  - {address: %s, port: 80, scheduler: wlc, realservers: [{address: %s}]}
  - {address: %s, protocol: udp, port: 53, scheduler: wlc, realservers: [{address: %s}]}
`, flows, base, vip, rip, vip, rip)
	_ = os.WriteFile(base+".yaml", []byte(text), 0o644)
	return peer{name: shuntName, program: program, args: []string{"run", "-c", base + ".yaml"}, cpu: -1, shunt: true}
}

// deafen has the realserver drop what comes from forged addresses, so that the director is what is
// measured.
func (l *lab) deafen() error {
	return l.realHost.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "deaf"})
		chain := c.AddChain(&nftables.Chain{Name: "in", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
			Priority: nftables.ChainPriorityFirst, Device: "r0"})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 2},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xfe}, Xor: []byte{0, 0}},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{198, 18}},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
		return c.Flush()
	})
}

// ringLost asks the running director for the frames that its rings did not take.
func ringLost(socket string) (n uint64, err error) {
	s, err := askShunt(socket)
	return ringsLost(&s), err
}

// memoryOf is what a process has in memory, in MiB; 0 if nobody can tell.
func memoryOf(pid int) (mib int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, rest, ok := strings.Cut(string(b), "VmRSS:"); ok {
		if _, err := fmt.Sscan(rest, &mib); err == nil {
			return mib >> 10
		}
	}
	return 0
}

func (r *AttackRow) line() string {
	of := func(n [2]int) string { return fmt.Sprintf("%d of %d", n[0], n[1]) }
	full := "roomy"
	if r.Full {
		full = "full"
	}
	return fmt.Sprintf("| %s | %s | %.0f | %s | %s | %s | %s | %.3f | %d | %d, %d |", r.Attack, full, r.Rate, of(r.Keep), of(r.Fresh), of(r.Half), of(r.Idle),
		r.Answers, r.Lost, r.Memory[0], r.Memory[1])
}

// Markdown is the table.
func (r *AttackResult) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Under attack

Real connections beside forged frames, by `+"`make bench-attack`"+`: %s. The full table has %d places and was filled with
pairs of SYN and bare ACK before; the roomy one has 1,000,000. Each attack took %v.

| attack | table | frames a second | keep-alives | new connections | half-closed downloads | silent connections | answers a frame | lost by the rings | MiB before, after |
|---|---|---|---|---|---|---|---|---|---|
`, r.Machine, r.Options.Flows, r.Options.Window)
	for i := range r.Rows {
		fmt.Fprintln(&b, r.Rows[i].line())
	}
	return b.String()
}

// Write writes the table, and all figures as JSON, to files in dir.
func (r *AttackResult) Write(dir string) error {
	r.Options.Log, r.Options.Shunt = nil, filepath.Base(r.Options.Shunt)
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "attack.md"), []byte(r.Markdown()), 0o644),
		os.WriteFile(filepath.Join(dir, "attack.json"), append(text, '\n'), 0o644))
}
