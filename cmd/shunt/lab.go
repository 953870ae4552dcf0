package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shunt/internal/lab"
	"shunt/internal/netlab"
)

func labCmd() *cobra.Command {
	opt := lab.Options{}
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Demonstrate direct routing in a lab of network namespaces",
		Long: "Create a client, a director and two realservers in network namespaces, run `shunt run` on the\n" +
			"director, fetch pages through it, and verify the path from captures of every hop. The hosts are\n" +
			"removed at the end. The captures and the director's log are kept in lab-captures/NAME or in the\n" +
			"directory of --captures.\n\n" +
			"Several labs can run at the same time. `shunt lab list` lists them; --lab of exec and get\n" +
			"selects one.\n\n" +
			"Without root, the lab runs in a user namespace of its own.",
		Example: "  shunt lab\n  shunt lab --topology two-arm --keep\n  shunt lab --family both --report report.html\n  shunt lab exec client shunt lab get http://192.168.10.100/",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out = cmd.OutOrStdout()
			return runLab(cmd.Context(), opt)
		},
	}
	cmd.Flags().StringVar(&opt.Topology, "topology", "one-arm", strings.Join(lab.Topologies, " or "))
	cmd.Flags().StringVar(&opt.Name, "name", "", "name of the lab, for shunt lab exec --lab (default: the topology, with a number if it is already in use)")
	cmd.Flags().StringVar(&opt.Family, "family", "4", "address family: 4, 6 or both")
	cmd.Flags().BoolVar(&opt.Keep, "keep", false, "keep the lab running until Ctrl-C, for shunt lab exec")
	cmd.Flags().StringVar(&opt.Captures, "captures", "", "directory for the captures and the director's log (default: lab-captures/NAME)")
	cmd.Flags().StringVar(&opt.Report, "report", "", "write an HTML report to this file: topology, path, tables, verification")
	cmd.Flags().IntVar(&opt.Fetches, "fetches", 8, "number of pages to fetch, 2 to 1000")
	completeWords(cmd, "topology", lab.Topologies...)
	completeWords(cmd, "family", "4", "6", "both")
	cmd.AddCommand(labExecCmd(), labGetCmd(), labListCmd())
	return cmd
}

func runLab(ctx context.Context, opt lab.Options) error {
	if opt.Fetches < 2 || opt.Fetches > 1000 {
		return usageError{fmt.Errorf("--fetches %d: write 2 to 1000", opt.Fetches)}
	}
	known := false
	for _, t := range lab.Topologies {
		known = known || t == opt.Topology
	}
	if !known {
		return usageError{fmt.Errorf("--topology %q: write %s", opt.Topology, strings.Join(lab.Topologies, " or "))}
	}
	if strings.ContainsAny(opt.Name, "/ \t\n") {
		return usageError{fmt.Errorf("--name %q: write one word without a slash", opt.Name)}
	}
	if opt.Family != "4" && opt.Family != "6" && opt.Family != "both" {
		return usageError{fmt.Errorf("--family %q: write 4, 6 or both", opt.Family)}
	}
	if err := lab.Prepare(); err != nil {
		return err
	}
	if err := netlab.Privileged(); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	opt.Binary = exe
	err = lab.Run(ctx, opt)
	if errors.Is(err, lab.ErrFailed) {
		return exitStatus(1)
	}
	return err
}

// labFlag adds --lab, the name of a lab.
func labFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "lab", os.Getenv(lab.NameVariable), "name of the lab, if several are running: see shunt lab list")
	completeFlag(cmd, "lab", func(*cobra.Command) []string { return standingLabs() })
}

func labExecCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "exec [--lab NAME] HOST COMMAND...",
		Short: "Run a command on a host of a running lab",
		Long: "Run a command on a host of a running lab. The exit status is that of the command. --lab selects\n" +
			"the lab if several are running; it must precede HOST.",
		Example: "  shunt lab exec web1 ip neigh\n  shunt lab exec client tcpdump -ni eth0\n  shunt lab exec --lab two-arm router ip route",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError{errors.New("lab exec: name a host and a command, as in: shunt lab exec web1 ip addr")}
			}
			return labExec(name, args[0], args[1:])
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return labHosts(name), cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().SetInterspersed(false) // the flags behind HOST are the command's
	labFlag(cmd, &name)
	return cmd
}

func labExec(name, host string, args []string) error {
	status, err := lab.Exec(name, host, args)
	if err == nil && status != 0 {
		err = exitStatus(status)
	}
	return err
}

func labListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the running labs and their hosts",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := lab.Standing()
			for _, c := range all {
				fmt.Fprintf(cmd.OutOrStdout(), "%-16s pid %-8d %s\n", c.Name, c.PID, strings.Join(c.Hosts, ", "))
			}
			return err
		},
	}
}

// standingLabs lists names for completion.
func standingLabs() (out []string) {
	all, _ := lab.Standing()
	for _, c := range all {
		out = append(out, c.Name)
	}
	return out
}

// labHosts lists the hosts of a lab for completion; without a name, those of all labs.
func labHosts(name string) (out []string) {
	all, _ := lab.Standing()
	for _, c := range all {
		if name == "" || c.Name == name {
			out = append(out, c.Hosts...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// labGetCmd fetches a page where there is no curl.
func labGetCmd() *cobra.Command {
	var name, host string
	cmd := &cobra.Command{
		Use:   "get URL",
		Short: "Fetch a page, from here or from a host of a lab",
		Long: "Fetch a page from the host on which the command runs, for example by `shunt lab exec`. With\n" +
			"--host, fetch it from that host of the lab. With --lab alone, fetch it from the client of that\n" +
			"lab.",
		Example: "  shunt lab exec client shunt lab get http://192.168.10.100/\n  shunt lab get --lab two-arm http://192.168.10.100/",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("lab get: name one URL, as in: shunt lab get http://192.168.10.100/")}
			}
			if host != "" || cmd.Flags().Changed("lab") {
				return labExec(name, cmp.Or(host, "client"), []string{"shunt", "lab", "get", args[0]})
			}
			client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := client.Get(args[0])
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(cmd.OutOrStdout(), resp.Body)
			return err
		},
	}
	labFlag(cmd, &name)
	cmd.Flags().StringVar(&host, "host", "", "fetch from this host of the lab")
	completeFlag(cmd, "host", func(*cobra.Command) []string { return labHosts(name) })
	return cmd
}
