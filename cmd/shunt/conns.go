package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shunt/api"
	"shunt/internal/control"
)

func connsCmd() *cobra.Command {
	var socket string
	var s api.Selection
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "conns",
		Short: "List, end (kill) or move connections",
		Long: "List the connections and persistence templates of the running director. Options combine: a\n" +
			"connection is listed if it matches all of them. The columns are protocol, seconds until expiry,\n" +
			"state, client, VIP and realserver.\n\n" +
			"The table is read in short steps; forwarding continues meanwhile.",
		Example: "  shunt conns --client 10.0.0.0/8 --state ESTABLISHED\n" +
			"  shunt conns kill --realserver 10.10.0.12\n" +
			"  shunt conns move --realserver 10.10.0.12 --service 192.168.10.100:80 --to 10.10.0.11",
		Args: noCommand("conns"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := control.Matcher(&s, "--"); err != nil {
				return usageError{err}
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			defer out.Flush()
			client := api.NewClient(socket)
			if asJSON {
				enc := json.NewEncoder(out)
				return client.Connections(cmd.Context(), &s, func(c api.Connection) bool { return enc.Encode(c) == nil })
			}
			title := false
			return client.Connections(cmd.Context(), &s, func(c api.Connection) bool {
				if !title {
					fmt.Fprintf(out, "%-5s %8s %-12s %-28s %-28s %s\n", "PROTO", "EXPIRES", "STATE", "CLIENT", "VIRTUAL", "REALSERVER")
					title = true
				}
				left := time.Duration(c.Expires * float64(time.Second)).Round(time.Second)
				_, err := fmt.Fprintf(out, "%-5s %8s %-12s %-28s %-28s %s\n", c.Protocol, left, c.State, c.Client, c.Virtual, c.Realserver)
				return err == nil
			})
		},
	}
	socketFlag(cmd.PersistentFlags(), &socket)
	flags := cmd.PersistentFlags()
	flags.StringVar(&s.Client, "client", "", "only this client: address, address:port or prefix")
	flags.StringVar(&s.Service, "service", "", "only this VIP: address, address:port or prefix")
	flags.StringVar(&s.Realserver, "realserver", "", "only this realserver: address, address:port or prefix")
	flags.StringVar(&s.Protocol, "protocol", "", "only this protocol: TCP, UDP or SCTP")
	flags.StringVar(&s.State, "state", "", "only this state, such as ESTABLISHED")
	completeFlag(cmd, "service", serviceAddresses)
	completeFlag(cmd, "realserver", realserverAddresses)
	completeWords(cmd, "protocol", "TCP", "UDP", "SCTP")
	completeWords(cmd, "state", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "UDP")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	cmd.AddCommand(killCmd(&socket, &s), moveCmd(&socket, &s))
	return cmd
}

// chosen rejects an empty selection without --all.
func chosen(s *api.Selection, all bool) error {
	if _, err := control.Matcher(s, "--"); err != nil {
		return usageError{err}
	}
	if *s == (api.Selection{}) && !all {
		return usageError{errors.New("conns: select connections by --client, --service, --realserver, --protocol or --state, or write --all")}
	}
	return nil
}

func killCmd(socket *string, s *api.Selection) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "kill",
		Short: "Remove connections from the connection table",
		Long: "Remove the selected connections from the connection table at once. The next packet of a TCP\n" +
			"connection gets a RST. The next datagram of a UDP client is scheduled again.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := chosen(s, all); err != nil {
				return err
			}
			n, err := api.NewClient(*socket).Kill(cmd.Context(), api.Kill{Select: *s, All: all})
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%d ended\n", n)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "select all connections")
	return cmd
}

func moveCmd(socket *string, s *api.Selection) *cobra.Command {
	var all bool
	var to string
	cmd := &cobra.Command{
		Use:   "move --to RIP",
		Short: "Move connections to another realserver of their service",
		Long: "Move the selected connections to another realserver of their service, from their next packet on.\n" +
			"A TCP connection survives only if the new realserver can continue it. UDP flows and persistence\n" +
			"templates need no such state.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := chosen(s, all); err != nil {
				return err
			}
			addr, err := netip.ParseAddr(strings.TrimSpace(to))
			if err != nil {
				return usageError{fmt.Errorf("conns move: --to %q is not an address: name a realserver by its address", to)}
			}
			n, err := api.NewClient(*socket).Move(cmd.Context(), api.Move{Select: *s, To: addr, All: all})
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%d moved\n", n)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "select all connections")
	cmd.Flags().StringVar(&to, "to", "", "address of the new realserver")
	completeFlag(cmd, "to", realserverAddresses)
	return cmd
}
