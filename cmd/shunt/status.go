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
		Short: "How the running director is, on one screen",
		Long: "Tell how the running director is: warnings, services with the state of their realservers, what became of frames, the\n" +
			"connection table, rings. Lines that begin with ! are what to look at first. The exit status is 1 if no director answers.",
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "everything as JSON, for scripts: /v1/overview of the control socket")
	cmd.Flags().BoolVar(&all, "all", false, "every realserver, also of services with many")
	return cmd
}

// writeJSON writes v for scripts.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
