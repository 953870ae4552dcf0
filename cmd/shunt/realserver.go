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
		Short: "Make this host a realserver, look whether it is one, or take it back",
		Long: "A realserver of direct routing has the VIPs on lo, does not answer ARP for them (arp_ignore, arp_announce), takes\n" +
			"requests whatever the way back (rp_filter), and sends its answers to the private gateway. Run this on the realserver.",
		Args: noCommand("realserver"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(realserverApplyCmd(), realserverCheckCmd(), realserverUndoCmd(), realserverRemoveCmd())
	return cmd
}

// realserverFlags are of apply and check.
func realserverFlags(cmd *cobra.Command, opt *realserver.Options, vips, gateways *[]string) {
	cmd.Flags().StringSliceVar(vips, "vip", nil, "a VIP, IPv4 or IPv6; may be given several times")
	cmd.Flags().StringSliceVar(gateways, "gateway", nil, "the private gateway, one of each family; without it the default route is not looked at")
	cmd.Flags().StringSliceVar(&opt.Interfaces, "interface", nil, "by which the director's frames come; may be given several times (default: all that are up and have an address)")
}

// stateVariable names the file for those who do not want to say --state each time: the laboratory, whose hosts share one /run.
const stateVariable = "SHUNT_REALSERVER_STATE"

func stateFlag(cmd *cobra.Command, opt *realserver.Options) {
	cmd.Flags().StringVar(&opt.State, "state", os.Getenv(stateVariable), "file that notes what was there before (default: one of this network namespace in /run)")
}

func realserverApplyCmd() *cobra.Command {
	var opt realserver.Options
	var vips, gateways []string
	var dry, script bool
	cmd := &cobra.Command{
		Use:   "apply --vip VIP... [--gateway GATEWAY]",
		Short: "Make this host a realserver",
		Long: "Set what is not as it should be, and say each step. It may be run again. What was there before is noted for\n" +
			"`shunt realserver undo`.\n\n" +
			"It lasts until the next boot. With --persist it lasts: by files of systemd-networkd or ifupdown if one of them looks after the\n" +
			"interface, or else by a systemd unit; --persist=METHOD names one. Files that somebody else wrote are not touched, and\n" +
			"`shunt realserver remove` takes them away again. --dry-run shows them.",
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
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the commands that would change something, and change nothing")
	cmd.Flags().BoolVar(&script, "script", false, "print a script for sh that does it all, for hosts without shunt")
	persistFlags(cmd, &opt)
	cmd.MarkFlagsMutuallyExclusive("dry-run", "script")
	cmd.MarkFlagsMutuallyExclusive("root", "script")
	return cmd
}

func persistFlags(cmd *cobra.Command, opt *realserver.Options) {
	cmd.Flags().StringVar(&opt.Persist, "persist", "", "make it last, by "+strings.Join(realserver.Methods, ", "))
	cmd.Flags().Lookup("persist").NoOptDefVal = realserver.Methods[0]
	completeWords(cmd, "persist", realserver.Methods...)
	rootFlag(cmd, opt)
}

func rootFlag(cmd *cobra.Command, opt *realserver.Options) {
	cmd.Flags().StringVar(&opt.Root, "root", "", "only the files of --persist, below this folder: for images")
}

func realserverRemoveCmd() *cobra.Command {
	var opt realserver.Options
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Take away what --persist wrote, and undo",
		Long: "Take away the files by which the host becomes a realserver at each boot, and then what `shunt realserver undo` takes back.\n" +
			"What the last boot set was not noted: it lasts until the next one.",
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
