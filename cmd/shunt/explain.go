package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"shunt/api"
	"shunt/internal/explain"
)

func explainCmd() *cobra.Command {
	var path, socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [-c FILE] PACKET",
		Short: "Show where a packet would go, and why",
		Long: "Show the service that a packet matches, what decides (its connection, persistence or the\n" +
			"scheduler), which realservers are skipped and why, and which one gets the packet. The director's\n" +
			"state does not change.\n\n" +
			"A packet with the source address of a realserver is assumed to have the realserver's source MAC:\n" +
			"the loop guard drops it.\n\n" +
			"The running director answers. With -c the answer is that of a director just started with this\n" +
			"configuration.",
		Example: "  shunt explain 'tcp 203.0.113.7:40000 > 192.168.10.100:80'\n" +
			"  shunt explain -c shunt.yaml 'udp [2001:db8::7]:5353 > [2001:db8::53]:53'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("explain: name a packet, as in: shunt explain 'tcp 203.0.113.7:40000 > 192.168.10.100:80'")}
			}
			packet := strings.Join(args, " ")
			var x api.Explanation
			var err error
			if path != "" {
				x, err = explain.Offline(cmd.Context(), path, packet)
			} else {
				x, err = api.NewClient(socket).Explain(cmd.Context(), packet)
			}
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(x)
			}
			explain.Print(cmd.OutOrStdout(), &x)
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "use this configuration instead of the running director")
	socketFlag(cmd.Flags(), &socket)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the explanation as JSON")
	return cmd
}
