package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"shunt/api"
)

func reloadCmd() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration of the running director and wait for the result",
		Long: "Make the running director read its configuration file again, as SIGHUP does, and wait for the\n" +
			"result. If the file is invalid, all errors are printed, the exit status is 1, and the old\n" +
			"configuration stays in force. A reload discards all changes made at run time.\n\n" +
			"`shunt check --diff` shows in advance what a reload would change.",
		Example: "  shunt check --diff && shunt reload",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := api.NewClient(socket).Reload(cmd.Context())
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "the configuration is in force")
			}
			return err
		},
	}
	socketFlag(cmd.Flags(), &socket)
	return cmd
}

func configCmd() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the running configuration as a configuration file",
		Long: "Print the running configuration, including changes made at run time, as a file for `shunt run`.\n" +
			"Keys that are not printed have their default. Comments and anchors of the original file are not\n" +
			"kept.",
		Example: "  shunt config > running.yaml\n  shunt config | shunt check -c /dev/stdin",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := api.NewClient(socket).Config(cmd.Context())
			if err == nil {
				_, err = io.WriteString(cmd.OutOrStdout(), c.YAML)
			}
			return err
		},
	}
	socketFlag(cmd.Flags(), &socket)
	return cmd
}

func drainCmd() *cobra.Command {
	return weightCmd("drain", "Set a realserver's weight to 0, so that it gets no new connections",
		"Set a realserver's weight to 0, in all of its services or in one. Its existing connections\n"+
			"continue. `shunt enable` restores the weight. Like all changes at run time, this one lasts until\n"+
			"the configuration is reloaded.",
		(*api.Client).Drain)
}

func enableCmd() *cobra.Command {
	return weightCmd("enable", "Restore the weight of a drained realserver",
		"Restore the weight of a drained realserver, in all of its services or in one. The weight is the\n"+
			"one before the drain; if that is unknown, the one of the configuration; otherwise 1.",
		(*api.Client).Enable)
}

func weightCmd(name, short, long string, do func(*api.Client, context.Context, api.Servers) ([]api.WeightChange, error)) *cobra.Command {
	var socket string
	var s api.Servers
	cmd := &cobra.Command{
		Use:     name + " REALSERVER",
		Short:   short,
		Long:    long,
		Example: "  shunt " + name + " 10.10.0.12\n  shunt " + name + " 10.10.0.12 --service 192.168.10.100:80",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s: name one realserver by its address", name)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := netip.ParseAddr(strings.TrimSpace(args[0]))
			if err != nil {
				return usageError{fmt.Errorf("%s: %q is not an address: name one realserver by its address", name, args[0])}
			}
			s.Realserver = addr
			done, err := do(api.NewClient(socket), cmd.Context(), s)
			if err != nil {
				return err
			}
			for _, c := range done {
				state := fmt.Sprintf("weight %d -> %d", c.Old, c.New)
				if c.Old == c.New {
					state = fmt.Sprintf("weight is already %d", c.New)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s of %s: %s\n", c.Realserver, api.Printable(c.Service), state)
			}
			return nil
		},
	}
	socketFlag(cmd.Flags(), &socket)
	cmd.Flags().StringVar(&s.Service, "service", "", "only in this service: its name, VIP or VIP:port")
	completeFlag(cmd, "service", serviceAddresses)
	cmd.ValidArgsFunction = completeOne(realserverAddresses)
	return cmd
}
