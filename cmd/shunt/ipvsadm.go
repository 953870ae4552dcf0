package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"shunt/internal/config"
	"shunt/internal/ipvsadm"
	"shunt/internal/remote"
)

func ipvsadmCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ipvsadm [OPTION]...",
		Short: "ipvsadm 1.31 for the running director",
		Long: "The options, messages, exit codes and listings of ipvsadm 1.31. What it changes lasts until the configuration is read\n" +
			"again. Under the name ipvsadm this program does the same: `make install IPVSADM=1` makes the link.\n\n" +
			"The control socket is " + config.DefaultSocket + ", or that of the environment variable " + socketVariable + ".",
		Example:            "  shunt ipvsadm -Ln --stats\n  shunt ipvsadm -e -t 192.168.10.100:80 -r 10.10.0.11 -w 0",
		DisableFlagParsing: true,
		ValidArgsFunction:  completeIpvsadm,
		RunE: func(cmd *cobra.Command, args []string) error {
			if status := runIpvsadm(cmd.Context(), args); status != 0 {
				return exitStatus(status)
			}
			return nil
		},
	}
}

func runIpvsadm(ctx context.Context, args []string) int {
	return ipvsadm.Run(args, os.Stdin, os.Stdout, os.Stderr, remote.New(ctx, defaultSocket()))
}
