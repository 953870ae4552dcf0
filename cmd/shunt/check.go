package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"shunt/internal/config"
)

func checkCmd() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Validate a configuration without running it",
		Long: "Read a configuration as shunt run would, and say what is wrong with it: every error with its file, line and column, an excerpt\n" +
			"and what to write instead. Nothing is opened or changed. Exit status: 0 valid, 1 not, 2 the command line was wrong.",
		Example: "  shunt check -c /etc/shunt/shunt.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil && !asJSON {
				return err
			}
			realservers := 0
			if err == nil {
				for _, s := range cfg.Services {
					realservers += len(s.Realservers)
				}
			}
			if asJSON {
				r := checked{File: path, Valid: err == nil, Errors: config.Errors(err)}
				if err == nil {
					r.Legs, r.Services, r.Realservers = len(cfg.Legs), len(cfg.Services), realservers
				}
				if e := writeJSON(cmd.OutOrStdout(), r); e != nil || err == nil {
					return e
				}
				return exitStatus(1)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: valid: %d legs, %d services, %d realservers\n", path, len(cfg.Legs), len(cfg.Services), realservers)
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "for scripts: the errors with file, line and column")
	return cmd
}

// checked is what check tells scripts.
type checked struct {
	File        string         `json:"file"`
	Valid       bool           `json:"valid"`
	Legs        int            `json:"legs"`
	Services    int            `json:"services"`
	Realservers int            `json:"realservers"`
	Errors      []config.Error `json:"errors"`
}

// configFlag adds -c, without which there is nothing to do.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "/etc/shunt/shunt.yaml", "configuration file")
}
