// Command shuntbench measures shunt on the wire. `make bench-wire` and `make bench-dr` run it; its
// parts can be used alone:
//
//	shuntbench wire      --shunt bin/shunt --out bench/results    # everybody, in turns
//	shuntbench attack    --shunt bin/shunt --out bench/results    # real clients beside forged frames
//	shuntbench gen       --interface eth0 --rate 100000           # frames of many clients from a TX ring
//	shuntbench bareloop  --in eth0 --out eth1 --vip ... --mac ... # the least that a forwarder does
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"shunt/bench/bareloop"
	"shunt/bench/traffic"
	"shunt/bench/wire"
	"shunt/forwarder/frame"
	"shunt/internal/netlab"
)

func main() {
	root := &cobra.Command{Use: "shuntbench", Short: "Measures shunt on the wire", SilenceUsage: true}
	root.AddCommand(wireCommand(), drCommand(), attackCommand(), genCommand(), bareCommand())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if root.ExecuteContext(ctx) != nil {
		os.Exit(1)
	}
}

func wireCommand() *cobra.Command {
	opt := wire.Options{Log: os.Stderr}
	var out string
	c := &cobra.Command{Use: "wire", Short: "shunt, the bare loop and all peers found, in turns", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if runtime.NumCPU() < 2 {
				return errors.New("the sender and the forwarder need a processor each: this machine has one")
			}
			end, err := prepare(&opt)
			if err != nil {
				return err
			}
			defer end()
			r, err := wire.Run(c.Context(), opt)
			if err != nil {
				return err
			}
			fmt.Print(r.Markdown())
			if out == "" {
				return nil
			}
			if err := r.Write(out, "wire"); err != nil {
				return err
			}
			return r.Bars(out, "wire")
		}}
	c.Flags().StringVar(&opt.Shunt, "shunt", "bin/shunt", "the program under test")
	c.Flags().StringVar(&out, "out", "", "folder for the results; none: only the table on standard output")
	c.Flags().IntVar(&opt.Rounds, "rounds", 5, "rounds, of which the medians are taken")
	c.Flags().DurationVar(&opt.Window, "window", 2*time.Second, "length of each measurement")
	c.Flags().StringVar(&opt.Ring, "ring", "", "what shunt's configuration has under ring:, as {busy: latency}")
	c.Flags().StringSliceVar(&opt.Only, "only", nil, "measure these only, by name")
	c.Flags().StringArrayVar(&opt.Also, "also", nil, "measure another shunt beside it: name=program, or 'name=program {busy: latency}'")
	c.Flags().StringSliceVar(&opt.Parts, "parts", nil, "measure this only: some of "+strings.Join(wire.Parts, ", "))
	return c
}

func attackCommand() *cobra.Command {
	opt := wire.AttackOptions{Log: os.Stderr}
	var out string
	c := &cobra.Command{Use: "attack", Short: "Real clients beside one flood after the other, with a full table and a roomy one", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if opt.Flows < 1024 || opt.Rate < 1000 || opt.Rate > 1_000_000 || opt.Window < time.Second || opt.Window > time.Minute {
				return errors.New("use a table of 1024 flows or more, 1000 to 1,000,000 frames a second, and 1s to 1m")
			}
			if err := netlab.Privileged(); err != nil {
				return err
			}
			r, err := wire.RunAttack(c.Context(), opt)
			if err != nil {
				return err
			}
			fmt.Print(r.Markdown())
			if out == "" {
				return nil
			}
			return r.Write(out)
		}}
	c.Flags().StringVar(&opt.Shunt, "shunt", "bin/shunt", "the program under test")
	c.Flags().StringVar(&out, "out", "", "folder for the results; none: only the table on standard output")
	c.Flags().IntVar(&opt.Flows, "flows", 20_000, "places of the table that is full")
	c.Flags().IntVar(&opt.Rate, "rate", 20_000, "forged frames a second")
	c.Flags().DurationVar(&opt.Window, "window", 5*time.Second, "length of each attack")
	c.Flags().StringSliceVar(&opt.Only, "only", nil, "these attacks only, by a part of their names")
	return c
}

func drCommand() *cobra.Command {
	opt := wire.Options{Log: os.Stderr}
	var out string
	c := &cobra.Command{Use: "dr", Short: "Large pages through one director, by direct routing and by NAT", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			end, err := prepare(&opt)
			if err != nil {
				return err
			}
			defer end()
			r, err := wire.RunDR(c.Context(), opt)
			if err != nil {
				return err
			}
			fmt.Print(r.Markdown())
			if out == "" {
				return nil
			}
			if err := r.Write(out, "dr"); err != nil {
				return err
			}
			return wire.DRPlots(r, out)
		}}
	c.Flags().StringVar(&opt.Shunt, "shunt", "bin/shunt", "the program under test")
	c.Flags().StringVar(&out, "out", "", "folder for the results; none: only the table on standard output")
	c.Flags().IntVar(&opt.Rounds, "rounds", 5, "rounds, of which the medians are taken")
	c.Flags().DurationVar(&opt.Window, "window", 2*time.Second, "length of each measurement")
	return c
}

// prepare has this program run where it may make networks, and before others. The function that it
// returns undoes the latter.
func prepare(opt *wire.Options) (end func(), err error) {
	if err := netlab.Privileged(); err != nil {
		return nil, err
	}
	runtime.LockOSThread() // the priority is a thread's
	if err := first(); err != nil {
		return nil, err
	}
	if opt.Self, err = os.Executable(); err != nil {
		return nil, err
	}
	session("-20")
	return func() { session("0") }, nil
}

// favoured marks the process that runs before all others.
const favoured = "SHUNTBENCH_FAVOURED"

// first runs this program again with the highest priority, if it may have it: what else runs on the
// machine disturbs the figures less then. All that it starts, whoever is measured, has the same
// priority.
func first() error {
	if os.Getenv(favoured) != "" || unix.Setpriority(unix.PRIO_PROCESS, 0, -20) != nil {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(exe, os.Args, append(os.Environ(), favoured+"=1"))
}

// session sets the priority of all that this session runs, beside other sessions (sched(7),
// autogroups).
func session(nice string) { _ = os.WriteFile("/proc/self/autogroup", []byte(nice), 0o644) }

func genCommand() *cobra.Command {
	spec := traffic.Default()
	var name, vip, clients, src, dst string
	var rate float64
	var d time.Duration
	c := &cobra.Command{Use: "gen", Short: "Sends frames of many clients to a VIP from a TX ring", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) (err error) {
			if spec.VIP, err = netip.ParseAddr(vip); err != nil {
				return err
			}
			if spec.Clients, err = netip.ParseAddr(clients); err != nil {
				return err
			}
			if spec.Src, err = mac(src); err != nil {
				return err
			}
			if spec.Dst, err = mac(dst); err != nil {
				return err
			}
			f, err := traffic.New(spec)
			if err != nil {
				return err
			}
			runtime.LockOSThread()
			n, err := traffic.Send(name, f, rate, d)
			if err == nil {
				fmt.Println(n)
			}
			return err
		}}
	f := c.Flags()
	f.StringVar(&name, "interface", "", "where to send")
	f.Float64Var(&rate, "rate", 0, "frames a second; 0: as fast as possible")
	f.DurationVar(&d, "time", time.Second, "for how long")
	f.IntVar(&spec.Length, "length", spec.Length, "bytes of a frame")
	f.IntVar(&spec.Flows, "flows", spec.Flows, "flows")
	f.Float64Var(&spec.SYN, "syn", spec.SYN, "share of SYNs; the others are of established connections")
	f.Float64Var(&spec.Zipf, "zipf", spec.Zipf, "exponent of the flows' popularity, above 1; 0: they take turns")
	f.Uint64Var(&spec.Seed, "seed", spec.Seed, "of what is random")
	f.Uint16Var(&spec.Port, "port", spec.Port, "port of the service")
	f.StringVar(&vip, "vip", spec.VIP.String(), "virtual address")
	f.StringVar(&clients, "clients", spec.Clients.String(), "address of the first client")
	f.StringVar(&src, "src", spec.Src.String(), "source MAC")
	f.StringVar(&dst, "dst", spec.Dst.String(), "destination MAC: the director's")
	_ = c.MarkFlagRequired("interface")
	return c
}

func bareCommand() *cobra.Command {
	var in, out, vip, to string
	var offloads bool
	c := &cobra.Command{Use: "bareloop", Short: "The least that a forwarder does", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			addr, err := netip.ParseAddr(vip)
			if err != nil || !addr.Is4() {
				return fmt.Errorf("VIP %q: use an IPv4 address", vip)
			}
			m, err := mac(to)
			if err != nil {
				return err
			}
			signal.Reset() // it does not look at a context
			runtime.LockOSThread()
			if offloads {
				return bareloop.RunOffloads(in, out, addr, m)
			}
			return bareloop.Run(in, out, addr, m)
		}}
	c.Flags().StringVar(&in, "in", "", "interface to receive on")
	c.Flags().StringVar(&out, "out", "", "interface to send on")
	c.Flags().StringVar(&vip, "vip", "", "whose frames are forwarded")
	c.Flags().StringVar(&to, "mac", "", "where they go")
	c.Flags().BoolVar(&offloads, "offloads", false, "pass super-frames and partial checksums on: TPACKET_V2 with slots for them")
	for _, f := range []string{"in", "out", "vip", "mac"} {
		_ = c.MarkFlagRequired(f)
	}
	return c
}

func mac(s string) (m frame.MAC, err error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(m) {
		return m, fmt.Errorf("MAC %q: write it as 02:00:00:00:00:11", s)
	}
	return frame.MAC(hw), nil
}
