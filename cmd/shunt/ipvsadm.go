package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"shunt/api"
	"shunt/internal/config"
	"shunt/internal/ipvsadm"
)

func ipvsadmCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ipvsadm [OPTION]...",
		Short: "Run ipvsadm 1.31 commands against the running director",
		Long: "Accept the options of ipvsadm 1.31, with its messages, exit codes and listings. Changes last\n" +
			"until the configuration is reloaded. This program behaves the same when its name is ipvsadm:\n" +
			"`make install IPVSADM=1` creates that link.\n\n" +
			"The control socket is " + config.DefaultSocket + ". The environment variable\n" +
			socketVariable + " overrides it.",
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
	return ipvsadm.Run(ctx, args, os.Stdin, os.Stdout, os.Stderr, api.NewClient(defaultSocket()))
}
