package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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
			"through it and prove from captures of every hop what happened. Everything is removed at the end.\n\n" +
			"Without root it opens a user namespace of its own.",
		Example: "  shunt lab\n  shunt lab --topology two-arm --keep\n  shunt lab --family both --report report.html\n  shunt lab exec client shunt lab get http://192.168.10.100/",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out = cmd.OutOrStdout()
			return runLab(cmd.Context(), opt)
		},
	}
	cmd.Flags().StringVar(&opt.Topology, "topology", "one-arm", strings.Join(lab.Topologies, " or "))
	cmd.Flags().StringVar(&opt.Family, "family", "4", "addresses: 4, 6 or both")
	cmd.Flags().BoolVar(&opt.Keep, "keep", false, "leave it standing until Ctrl-C, for shunt lab exec")
	cmd.Flags().StringVar(&opt.Captures, "captures", "", "folder for the captures (default lab-captures/TOPOLOGY)")
	cmd.Flags().StringVar(&opt.Report, "report", "", "write a page about the run to this file: topology, trail, tables, proof")
	cmd.Flags().IntVar(&opt.Fetches, "fetches", 8, "number of pages to fetch, 2 to 1000")
	cmd.AddCommand(labExecCmd(), labGetCmd())
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

func labExecCmd() *cobra.Command {
	return &cobra.Command{
		Use:                "exec HOST COMMAND...",
		Short:              "Run a command on a host of the laboratory that stands",
		Example:            "  shunt lab exec web1 ip neigh\n  shunt lab exec client tcpdump -ni eth0",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
				return cmd.Help()
			}
			if len(args) < 2 {
				return usageError{errors.New("lab exec: name a host and a command, as in: shunt lab exec web1 ip addr")}
			}
			status, err := lab.Exec(args[0], args[1:])
			if err != nil {
				return err
			}
			if status != 0 {
				return exitStatus(status)
			}
			return nil
		},
	}
}

// labGetCmd fetches a page where there is no curl.
func labGetCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "get URL",
		Short: "Fetch a page, for hosts of the laboratory",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("lab get: name one URL, as in: shunt lab get http://192.168.10.100/")}
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
}
