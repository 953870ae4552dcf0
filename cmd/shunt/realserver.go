package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"shunt/internal/realserver"
)

func realserverCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "realserver",
		Short: "Make this host a realserver, look whether it is one, or take it back",
		Long: "A realserver of direct routing has the VIPs on lo, does not answer ARP for them (arp_ignore, arp_announce), takes\n" +
			"requests whatever the way back (rp_filter), and sends its answers to the private gateway. Run this on the realserver.",
		Args: noCommand("realserver"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(realserverApplyCmd(), realserverCheckCmd(), realserverUndoCmd())
	return cmd
}

// realserverFlags are of apply and check.
func realserverFlags(cmd *cobra.Command, opt *realserver.Options, vips, gateways *[]string) {
	cmd.Flags().StringSliceVar(vips, "vip", nil, "a VIP, IPv4 or IPv6; may be given several times")
	cmd.Flags().StringSliceVar(gateways, "gateway", nil, "the private gateway, one of each family; without it the default route is not looked at")
	cmd.Flags().StringVar(&opt.Interface, "interface", "", "by which the director's frames come (default: the one towards the gateway)")
}

// stateVariable names the file for those who do not want to say --state each time: the laboratory, whose hosts share one /run.
const stateVariable = "SHUNT_REALSERVER_STATE"

func stateFlag(cmd *cobra.Command, opt *realserver.Options) {
	cmd.Flags().StringVar(&opt.State, "state", cmp.Or(os.Getenv(stateVariable), realserver.DefaultState), "file that notes what was there before")
}

func realserverApplyCmd() *cobra.Command {
	var opt realserver.Options
	var vips, gateways []string
	var dry, script bool
	cmd := &cobra.Command{
		Use:   "apply --vip VIP... [--gateway GATEWAY]",
		Short: "Make this host a realserver",
		Long: "Set what is not as it should be, and say each step. It may be run again; it lasts until the next boot.\n" +
			"What was there before is noted for `shunt realserver undo`.",
		Example: "  shunt realserver apply --vip 192.168.10.100 --gateway 10.10.0.1\n" +
			"  shunt realserver apply --vip 192.168.10.100,2001:db8:10::100 --gateway 10.10.0.1,fd00:10::1 --dry-run\n" +
			"  shunt realserver apply --vip 192.168.10.100 --gateway 10.10.0.1 --interface eth0 --script | ssh root@web1 sh",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out = cmd.OutOrStdout()
			if err := opt.Parse(vips, gateways); err != nil {
				return usageError{err}
			}
			if script {
				return realserver.Script(opt)
			}
			return realserver.Apply(opt, dry)
		},
	}
	realserverFlags(cmd, &opt, &vips, &gateways)
	stateFlag(cmd, &opt)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the commands that would change something, and change nothing")
	cmd.Flags().BoolVar(&script, "script", false, "print a script for sh that does it all, for hosts without shunt")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "script")
	return cmd
}

func realserverCheckCmd() *cobra.Command {
	var opt realserver.Options
	var vips, gateways []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "check --vip VIP... [--gateway GATEWAY]",
		Short:   "Look whether this host is a realserver",
		Long:    "Look at each setting and change none. Exit status 1 if one is wrong. It needs no privileges.",
		Example: "  shunt realserver check --vip 192.168.10.100 --gateway 10.10.0.1",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out = cmd.OutOrStdout()
			if err := opt.Parse(vips, gateways); err != nil {
				return usageError{err}
			}
			if !asJSON {
				return silent(realserver.Check(opt), realserver.ErrWrong)
			}
			found, err := realserver.Look(opt)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			if err := enc.Encode(found); err != nil {
				return err
			}
			for _, f := range found {
				if !f.OK {
					return exitStatus(1)
				}
			}
			return nil
		},
	}
	realserverFlags(cmd, &opt, &vips, &gateways)
	cmd.Flags().BoolVar(&asJSON, "json", false, "for scripts")
	return cmd
}

func realserverUndoCmd() *cobra.Command {
	opt := realserver.Options{}
	var vips []string
	cmd := &cobra.Command{
		Use:   "undo [--vip VIP...]",
		Short: "Take back what apply changed",
		Long: "Restore what `shunt realserver apply` changed since the last boot, the VIPs first. What somebody else has changed since\n" +
			"is left alone. With --vip only these VIPs are taken from lo.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out = cmd.OutOrStdout()
			only := opt
			if len(vips) > 0 {
				if err := only.Parse(vips, nil); err != nil {
					return usageError{err}
				}
			}
			return realserver.Undo(opt, only.VIPs)
		},
	}
	cmd.Flags().StringSliceVar(&vips, "vip", nil, "only this VIP; may be given several times")
	stateFlag(cmd, &opt)
	return cmd
}

// silent turns an error whose reason has been written already into exit status 1.
func silent(err, told error) error {
	if errors.Is(err, told) {
		return exitStatus(1)
	}
	return err
}
