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
		Short: "Have the running director read its file again, and wait for what becomes of it",
		Long: "Have the running director read its configuration file again, as SIGHUP does, and wait. If the file is wrong, all errors are\n" +
			"told, the exit status is 1, and the old configuration stays in force. What was changed at run time is lost: the file counts.\n\n" +
			"`shunt check --diff` shows before what would change.",
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
		Short: "Print the running configuration as a file",
		Long: "Print the configuration that runs, with what was changed since the file was read, as a file that `shunt run` takes. What is\n" +
			"not written has its default; comments and anchors of the file are not kept.",
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
	return weightCmd("drain", "Give a realserver weight 0: it gets no new connections",
		"Give a realserver weight 0 in all services that have it, or in one. Its connections go on; `shunt enable` gives it back the\n"+
			"weight that it had. Like all changes at run time it lasts until the configuration is read again.",
		(*api.Client).Drain)
}

func enableCmd() *cobra.Command {
	return weightCmd("enable", "Give a drained realserver its weight of before",
		"Give a drained realserver the weight that it had before it was drained, else that of the configuration, else 1: in all\n"+
			"services that have it, or in one.",
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
				return usageError{fmt.Errorf("%s: %q: write the address of a realserver", name, args[0])}
			}
			s.Realserver = addr
			done, err := do(api.NewClient(socket), cmd.Context(), s)
			if err != nil {
				return err
			}
			for _, c := range done {
				state := fmt.Sprintf("weight %d -> %d", c.Old, c.New)
				if c.Old == c.New {
					state = fmt.Sprintf("weight %d already", c.New)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s of %s: %s\n", c.Realserver, api.Printable(c.Service), state)
			}
			return nil
		},
	}
	socketFlag(cmd.Flags(), &socket)
	cmd.Flags().StringVar(&s.Service, "service", "", "in this service only: its name, a VIP or VIP:port")
	completeFlag(cmd, "service", serviceAddresses)
	cmd.ValidArgsFunction = completeOne(realserverAddresses)
	return cmd
}
