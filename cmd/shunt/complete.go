package main

import (
	"github.com/spf13/cobra"

	"shunt/internal/complete"
)

// completeFlag offers values for a flag.
func completeFlag(cmd *cobra.Command, flag string, values func(*cobra.Command) []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return values(cmd), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // there is no such flag
	}
}

func completeWords(cmd *cobra.Command, flag string, words ...string) {
	completeFlag(cmd, flag, func(*cobra.Command) []string { return words })
}

// completeOne offers values for the only argument.
func completeOne(values func(*cobra.Command) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return values(cmd), cobra.ShellCompDirectiveNoFileComp
	}
}

// socketOf returns the control socket of the command line being completed.
func socketOf(cmd *cobra.Command) string {
	if f := cmd.Flag("socket"); f != nil {
		return f.Value.String()
	}
	return defaultSocket()
}

func serviceAddresses(cmd *cobra.Command) []string { return complete.Services(socketOf(cmd)) }

func realserverAddresses(cmd *cobra.Command) []string { return complete.Realservers(socketOf(cmd)) }

// completeIpvsadm offers values for the preceding option. cobra does not know ipvsadm's options.
func completeIpvsadm(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete.Ipvsadm(socketOf(cmd), args), cobra.ShellCompDirectiveNoFileComp
}
