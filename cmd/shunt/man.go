package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"shunt/docs"
	"shunt/internal/manpage"
)

// manCmd is hidden: the build of packages uses it.
func manCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages of all commands and of the configuration to man5 and man8",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			man5, man8 := filepath.Join(args[0], "man5"), filepath.Join(args[0], "man8")
			if err := errors.Join(os.MkdirAll(man5, 0o755), os.MkdirAll(man8, 0o755)); err != nil {
				return err
			}
			page := manpage.Render(manpage.Page{
				Name: "shunt.yaml", Section: "5", Summary: "configuration of the LVS/DR director shunt", Source: "shunt " + version,
				SeeAlso: "**shunt-run**(8), **shunt-check**(8), **shunt-convert**(8)",
			}, docs.Configuration)
			if err := os.WriteFile(filepath.Join(man5, "shunt.yaml.5"), page, 0o644); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // or every day has other pages
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "shunt " + version, Manual: "shunt"}, man8)
		},
	}
}
