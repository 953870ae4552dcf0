package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"shunt/internal/doctor"
)

func doctorCmd() *cobra.Command {
	var opt doctor.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [-c FILE]",
		Short: "Find what goes wrong in direct routing, here and towards each realserver",
		Long: "Look at this host, at the running director's counters, and ask the realservers: whose MAC is known, who answers ARP for the\n" +
			"VIPs, and who answers a ping and a SYN to the VIP that are sent to its MAC, as the director sends them. Nothing is changed.\n" +
			"Each finding has its evidence and its remedy.\n\n" +
			"With -c it needs no running director. It needs CAP_NET_RAW, and CAP_NET_ADMIN to see the guard.\n\n" +
			"Exit status: 0 nothing found, 1 it could not look, 2 the command line was wrong, 3 warnings, 4 errors.",
		Example: "  shunt doctor\n  shunt doctor -c shunt.yaml --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Wait < 30*time.Millisecond || opt.Wait > time.Minute {
				return usageError{fmt.Errorf("--wait %s: write 30ms to 1m", opt.Wait)}
			}
			r, err := doctor.Run(cmd.Context(), opt)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				if err := enc.Encode(r); err != nil {
					return err
				}
			} else {
				r.Print(cmd.OutOrStdout())
			}
			if status := r.Status(); status != 0 {
				return exitStatus(status)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&opt.Config, "config", "c", "", "configuration file (default: the running director's)")
	socketFlag(cmd.Flags(), &opt.Socket)
	cmd.Flags().DurationVar(&opt.Wait, "wait", 900*time.Millisecond, "how long to wait for answers, in each of two rounds")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the report as JSON, for scripts")
	return cmd
}
