package main

import (
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/cobra"

	"shunt/api"
	"shunt/internal/figures"
)

func statusCmd() *cobra.Command {
	var socket string
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the running director on one screen",
		Long: "Show the state of the running director: warnings, services with the state of their realservers,\n" +
			"verdicts on frames, the connection table and the rings. Lines that begin with ! are warnings:\n" +
			"read them first. The exit status is 1 if no director answers.",
		Example: "  shunt status\n  shunt status --json | jq .verdicts",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := api.NewClient(socket).Overview(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), o)
			}
			host, _ := os.Hostname()
			return figures.Print(cmd.OutOrStdout(), &o, host, all)
		},
	}
	socketFlag(cmd.Flags(), &socket)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON: /v1/overview of the control socket")
	cmd.Flags().BoolVar(&all, "all", false, "list all realservers, also of services with many")
	return cmd
}

// writeJSON writes v for scripts.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
