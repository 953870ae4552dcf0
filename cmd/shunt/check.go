package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"shunt/api"
	"shunt/internal/config"
	"shunt/internal/figures"
)

func checkCmd() *cobra.Command {
	var path string
	var asJSON, diff bool
	var socket string
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Validate a configuration without running it",
		Long: "Read a configuration as `shunt run` does and report all errors. Each error has its file, line and\n" +
			"column, an excerpt and the remedy. Nothing is opened or changed. Exit status: 0 valid, 1 invalid,\n" +
			"2 wrong command line.\n\n" +
			"With --diff, also list what a reload would change, one change per line. The running\n" +
			"configuration, including changes made at run time, is compared with the file. Without -c this is\n" +
			"the running director's own file.",
		Example: "  shunt check -c /etc/shunt/shunt.yaml\n  shunt check --diff",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if diff {
				if cmd.Flags().Changed("config") {
					return showDiff(cmd, socket, path, asJSON)
				}
				return showDiff(cmd, socket, "", asJSON)
			}
			cfg, err := config.Load(cmd.Context(), path)
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
			fmt.Fprintf(cmd.OutOrStdout(), "%s: valid: %s, %s, %s\n", path, figures.Plural(len(cfg.Legs), "leg"),
				figures.Plural(len(cfg.Services), "service"), figures.Plural(realservers, "realserver"))
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the errors as JSON, with file, line and column")
	cmd.Flags().BoolVar(&diff, "diff", false, "show what a reload of the running director would change")
	socketFlag(cmd.Flags(), &socket)
	return cmd
}

// showDiff shows what a reload with the file at path would change; "" is the running director's
// own file.
func showDiff(cmd *cobra.Command, socket, path string, asJSON bool) error {
	running, err := api.NewClient(socket).Config(cmd.Context())
	if err != nil {
		return err
	}
	now, err := config.Parse("the running configuration", []byte(running.YAML))
	if err != nil {
		return err
	}
	file, err := config.Load(cmd.Context(), cmp.Or(path, running.File))
	if err != nil {
		return err
	}
	diff := config.Diff(now, file)
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), append([]api.Difference{}, diff...))
	}
	for i := range diff {
		fmt.Fprintln(cmd.OutOrStdout(), diff[i].String())
	}
	if len(diff) == 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: a reload would change nothing\n", file.Path)
	}
	return nil
}

// checked is the JSON output of check.
type checked struct {
	File        string         `json:"file"`
	Valid       bool           `json:"valid"`
	Legs        int            `json:"legs"`
	Services    int            `json:"services"`
	Realservers int            `json:"realservers"`
	Errors      []config.Error `json:"errors"`
}

// configFlag adds -c, the configuration file.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "/etc/shunt/shunt.yaml", "configuration file")
}
