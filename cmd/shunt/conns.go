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
		Short: "List connections; `shunt conns kill` ends some, `shunt conns move` has them go elsewhere",
		Long: "List the connections of the running director that are chosen by all of the options, and the templates of persistence:\n" +
			"protocol, seconds until it ends, state, client, VIP and realserver.\n\n" +
			"The table is read in short steps while traffic goes on.",
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
	flags.StringVar(&s.Client, "client", "", "of this client: address, address:port or prefix")
	flags.StringVar(&s.Service, "service", "", "to this VIP: address, address:port or prefix")
	flags.StringVar(&s.Realserver, "realserver", "", "of this realserver: address, address:port or prefix")
	flags.StringVar(&s.Protocol, "protocol", "", "TCP, UDP or SCTP")
	flags.StringVar(&s.State, "state", "", "in this state, such as ESTABLISHED")
	completeFlag(cmd, "service", serviceAddresses)
	completeFlag(cmd, "realserver", realserverAddresses)
	completeWords(cmd, "protocol", "TCP", "UDP", "SCTP")
	completeWords(cmd, "state", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "UDP")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line, for scripts")
	cmd.AddCommand(killCmd(&socket, &s), moveCmd(&socket, &s))
	return cmd
}

// chosen refuses to change all connections without being told to.
func chosen(s *api.Selection, all bool) error {
	if _, err := control.Matcher(s, "--"); err != nil {
		return usageError{err}
	}
	if *s == (api.Selection{}) && !all {
		return usageError{errors.New("conns: choose connections by --client, --service, --realserver, --protocol or --state, or write --all")}
	}
	return nil
}

func killCmd(socket *string, s *api.Selection) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "kill",
		Short: "End connections: their next packets are of unknown ones",
		Long: "Have the director forget the connections that are chosen, at once. The next packet of a TCP connection gets a RST, and the\n" +
			"next datagram of a UDP client is scheduled anew.",
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
	cmd.Flags().BoolVar(&all, "all", false, "all connections")
	return cmd
}

func moveCmd(socket *string, s *api.Selection) *cobra.Command {
	var all bool
	var to string
	cmd := &cobra.Command{
		Use:   "move --to RIP",
		Short: "Have connections go to another realserver of their service",
		Long: "Have the connections that are chosen go to another realserver of their service from their next packet on. A TCP connection\n" +
			"lives on only if that one can take it up; for UDP, and for templates of persistence, there is nothing to take up.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := chosen(s, all); err != nil {
				return err
			}
			addr, err := netip.ParseAddr(strings.TrimSpace(to))
			if err != nil {
				return usageError{fmt.Errorf("conns move: --to %q: write the address of a realserver", to)}
			}
			n, err := api.NewClient(*socket).Move(cmd.Context(), api.Move{Select: *s, To: addr, All: all})
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%d moved\n", n)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all connections")
	cmd.Flags().StringVar(&to, "to", "", "address of the realserver")
	completeFlag(cmd, "to", realserverAddresses)
	return cmd
}
