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
		Short: "Show direct routing in a laboratory of network namespaces",
		Long: "Make a client, a director and two realservers in network namespaces, run `shunt run` on the director, fetch pages\n" +
			"through it and prove from captures of every hop what happened. The hosts are removed at the end. The captures and the\n" +
			"director's log stay, in lab-captures/NAME or the folder of --captures.\n\n" +
			"Several may stand at once: shunt lab list lists them, and --lab of exec and get names one.\n\n" +
			"Without root it opens a user namespace of its own.",
		Example: "  shunt lab\n  shunt lab --topology two-arm --keep\n  shunt lab --family both --report report.html\n  shunt lab exec client shunt lab get http://192.168.10.100/",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out = cmd.OutOrStdout()
			return runLab(cmd.Context(), opt)
		},
	}
	cmd.Flags().StringVar(&opt.Topology, "topology", "one-arm", strings.Join(lab.Topologies, " or "))
	cmd.Flags().StringVar(&opt.Name, "name", "", "its name, for shunt lab exec --lab (default that of the topology, with a number if that stands)")
	cmd.Flags().StringVar(&opt.Family, "family", "4", "addresses: 4, 6 or both")
	cmd.Flags().BoolVar(&opt.Keep, "keep", false, "leave it standing until Ctrl-C, for shunt lab exec")
	cmd.Flags().StringVar(&opt.Captures, "captures", "", "folder for the captures and the director's log, which stay (default lab-captures/NAME)")
	cmd.Flags().StringVar(&opt.Report, "report", "", "write a page about the run to this file: topology, trail, tables, proof")
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
		return usageError{fmt.Errorf("--name %q: write a word without a slash", opt.Name)}
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

// labFlag adds the flag that names a laboratory.
func labFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "lab", os.Getenv(lab.NameVariable), "name of the laboratory, where several stand: see shunt lab list")
	completeFlag(cmd, "lab", func(*cobra.Command) []string { return standingLabs() })
}

func labExecCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "exec [--lab NAME] HOST COMMAND...",
		Short:   "Run a command on a host of the laboratory that stands",
		Long:    "Run a command on a host of the laboratory that stands, with its own exit status. --lab names one where several stand, and comes\nbefore HOST.",
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
		Short: "List the laboratories that stand, and their hosts",
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

// labHosts lists the hosts of a laboratory for completion; of all without a name.
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
		Short: "Fetch a page, from here or from a host of the laboratory",
		Long: "Fetch a page from where the command runs, as on a host of the laboratory by shunt lab exec; or with --host from that host, and\n" +
			"with --lab from the client of that laboratory.",
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
	cmd.Flags().StringVar(&host, "host", "", "host of the laboratory from which to fetch it")
	completeFlag(cmd, "host", func(*cobra.Command) []string { return labHosts(name) })
	return cmd
}
