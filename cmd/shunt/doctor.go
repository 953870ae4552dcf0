package main

import (
	"encoding/json"
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
			"For the way back it pings each realserver from an address outside of the realservers' networks, so that the answer takes the\n" +
			"default route as answers to clients do. That is an address of this host on a public leg, if there is one. Else it is one near\n" +
			"the VIP for which nobody answers: the doctor answers for it as long as it looks. --from names another one.\n\n" +
			"With -c it needs no running director. It needs CAP_NET_RAW, and CAP_NET_ADMIN to see the guard.\n\n" +
			"Exit status: 0 all is well, 1 it could not look, 2 the command line was wrong, 3 warnings, 4 errors, 5 nothing was found but\n" +
			"something could not be looked at.",
		Example: "  shunt doctor\n  shunt doctor -c shunt.yaml --json\n  shunt doctor --from 192.168.10.250",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opt.Check(); err != nil {
				return usageError{err}
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
	timeFlag(cmd.Flags(), &opt.Wait, "wait", 900*time.Millisecond, "how long to wait for answers, in each of two rounds or three")
	cmd.Flags().StringVar(&opt.From, "from", "", "address from which to ping realservers for the way back; the gateway must bring it to this host; none: do not")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the report as JSON, for scripts")
	return cmd
}
