package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"shunt/internal/realserver"
)

func realserverCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "realserver",
		Short: "Configure this host as a realserver, check it, or undo it",
		Long: "A realserver of direct routing has the VIPs on lo, does not answer ARP for them (arp_ignore,\n" +
			"arp_announce), accepts requests regardless of the return route (rp_filter), and sends its replies\n" +
			"to the private gateway. Run this command on the realserver.",
		Args: noCommand("realserver"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(realserverApplyCmd(), realserverCheckCmd(), realserverUndoCmd(), realserverRemoveCmd())
	return cmd
}

// realserverFlags adds the flags shared by apply and check.
func realserverFlags(cmd *cobra.Command, opt *realserver.Options, vips, gateways *[]string) {
	cmd.Flags().StringSliceVar(vips, "vip", nil, "VIP, IPv4 or IPv6; may be repeated")
	cmd.Flags().StringSliceVar(gateways, "gateway", nil, "private gateway, one per address family; without it the default route is not checked")
	cmd.Flags().StringSliceVar(&opt.Interfaces, "interface", nil, "interface that receives the director's frames; may be repeated (default: all interfaces that are up and have an address)")
}

// stateVariable is the environment variable that replaces --state. The lab sets it, because its
// hosts share one /run.
const stateVariable = "SHUNT_REALSERVER_STATE"

func stateFlag(cmd *cobra.Command, opt *realserver.Options) {
	cmd.Flags().StringVar(&opt.State, "state", os.Getenv(stateVariable), "file that records the previous settings (default: a file in /run, one per network namespace)")
}

func realserverApplyCmd() *cobra.Command {
	var opt realserver.Options
	var vips, gateways []string
	var dry, script bool
	cmd := &cobra.Command{
		Use:   "apply --vip VIP... [--gateway GATEWAY]",
		Short: "Configure this host as a realserver",
		Long: "Change the settings that are wrong and print each step. Repeated runs change nothing further. The\n" +
			"previous settings are recorded for `shunt realserver undo`.\n\n" +
			"The settings last until the next boot. --persist makes them permanent: with files of\n" +
			"systemd-networkd or ifupdown if one of them manages the interface, otherwise with a systemd unit.\n" +
			"--persist=METHOD selects the method. Files written by others are never changed.\n" +
			"`shunt realserver remove` deletes the files that shunt wrote. --dry-run shows them.",
		Example: "  shunt realserver apply --vip 192.168.10.100 --gateway 10.10.0.1\n" +
			"  shunt realserver apply --vip 192.168.10.100,2001:db8:10::100 --gateway 10.10.0.1,fd00:10::1 --dry-run\n" +
			"  shunt realserver apply --vip 192.168.10.100 --gateway 10.10.0.1 --interface eth0 --script | ssh root@web1 sh\n" +
			"  shunt realserver apply --vip 192.168.10.100 --gateway 10.10.0.1 --persist --dry-run",
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
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the necessary commands, and change nothing")
	cmd.Flags().BoolVar(&script, "script", false, "print a shell script that does the same on hosts without shunt")
	persistFlags(cmd, &opt)
	cmd.MarkFlagsMutuallyExclusive("dry-run", "script")
	cmd.MarkFlagsMutuallyExclusive("root", "script")
	return cmd
}

func persistFlags(cmd *cobra.Command, opt *realserver.Options) {
	cmd.Flags().StringVar(&opt.Persist, "persist", "", "make the settings permanent: "+strings.Join(realserver.Methods, ", "))
	cmd.Flags().Lookup("persist").NoOptDefVal = realserver.Methods[0]
	completeWords(cmd, "persist", realserver.Methods...)
	rootFlag(cmd, opt)
}

func rootFlag(cmd *cobra.Command, opt *realserver.Options) {
	cmd.Flags().StringVar(&opt.Root, "root", "", "only write the files of --persist, below this directory (for images)")
}

func realserverRemoveCmd() *cobra.Command {
	var opt realserver.Options
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Delete the files of --persist, and undo",
		Long: "Delete the files that configure the host as a realserver at each boot, then do the same as\n" +
			"`shunt realserver undo`. Settings made by the last boot were not recorded: they last until the\n" +
			"next boot.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Out = cmd.OutOrStdout()
			return realserver.Remove(opt)
		},
	}
	stateFlag(cmd, &opt)
	rootFlag(cmd, &opt)
	return cmd
}

func realserverCheckCmd() *cobra.Command {
	var opt realserver.Options
	var vips, gateways []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "check --vip VIP... [--gateway GATEWAY]",
		Short:   "Check whether this host is configured as a realserver",
		Long:    "Check each setting and change none. The exit status is 1 if one is wrong. No privileges are needed.",
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func realserverUndoCmd() *cobra.Command {
	opt := realserver.Options{}
	var vips []string
	cmd := &cobra.Command{
		Use:   "undo [--vip VIP...]",
		Short: "Undo the changes of apply",
		Long: "Restore the settings that `shunt realserver apply` changed since the last boot, the VIPs first.\n" +
			"Settings changed by others since then are left alone. With --vip, only remove these VIPs from lo.",
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
	cmd.Flags().StringSliceVar(&vips, "vip", nil, "only this VIP; may be repeated")
	stateFlag(cmd, &opt)
	return cmd
}

// silent turns an error that has been reported already into exit status 1.
func silent(err, told error) error {
	if errors.Is(err, told) {
		return exitStatus(1)
	}
	return err
}
