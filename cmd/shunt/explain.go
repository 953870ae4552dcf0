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
		Short: "Tell where a packet would go, and why",
		Long: "Tell which service a packet matches, whether its connection, a client's persistence or the scheduler decides, who is\n" +
			"passed over and why, and who gets it. Nothing changes by asking.\n\n" +
			"A packet from the address of a realserver is taken to have that one's MAC: the loop guard drops it.\n\n" +
			"It asks the running director; with -c, what a director of that configuration would do that has just started.",
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
	cmd.Flags().StringVarP(&path, "config", "c", "", "explain this configuration instead of the running director")
	socketFlag(cmd.Flags(), &socket)
	cmd.Flags().BoolVar(&asJSON, "json", false, "the explanation as JSON, for scripts")
	return cmd
}
