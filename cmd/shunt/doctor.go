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
		Short: "Diagnose direct routing on this host and towards each realserver",
		Long: "Check this host and the running director's counters, and probe the realservers. The probes show\n" +
			"whose MAC is known, who answers ARP for the VIPs, and which realservers answer a ping and a SYN\n" +
			"to the VIP. Ping and SYN are sent to the realserver's MAC, as the director sends frames. Nothing\n" +
			"is changed. Each finding has its evidence and its remedy.\n\n" +
			"To check the return path, each realserver is pinged from an address outside the realservers'\n" +
			"networks, so that the reply takes the default route, as replies to clients do. The address is one\n" +
			"of this host on a public leg, if there is one. Otherwise it is an unused address near the VIP;\n" +
			"the doctor answers ARP for that address during the check. --from sets the address.\n\n" +
			"With -c no running director is needed. CAP_NET_RAW is required; CAP_NET_ADMIN is needed to see\n" +
			"the guard.\n\n" +
			"Exit status: 0 no findings, 1 the checks could not run, 2 wrong command line, 3 warnings,\n" +
			"4 errors, 5 no findings but some checks could not run.",
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
	timeFlag(cmd.Flags(), &opt.Wait, "wait", 900*time.Millisecond, "how long to wait for answers in each of the two or three rounds")
	cmd.Flags().StringVar(&opt.From, "from", "", "source address of the pings for the return path; the gateway must route it to this host; none: skip this check")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}
