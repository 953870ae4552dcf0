package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"shunt/internal/config"
)

func checkCmd() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     "check -c FILE",
		Short:   "Validate a configuration without running it",
		Example: "  shunt check -c /etc/shunt/shunt.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			realservers := 0
			for _, s := range cfg.Services {
				realservers += len(s.Realservers)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: valid: %d legs, %d services, %d realservers\n", path, len(cfg.Legs), len(cfg.Services), realservers)
			return nil
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// configFlag adds -c, without which there is nothing to do.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "/etc/shunt/shunt.yaml", "configuration file")
}
