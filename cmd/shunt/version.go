package main

import (
	_ "embed"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// release is the version of this source: MAJOR.MINOR.PATCH, and -dev before the release. The
// packages read the same file.
//
//go:embed version.txt
var release string

// version is a semantic version. It may be set when the binary is built.
var version string

func init() {
	if version == "" {
		version = strings.TrimSpace(release) + builtFrom(debug.ReadBuildInfo())
	}
}

// builtFrom returns the commit of the build as build metadata, such as +0123456789ab.dirty; "" if
// it is unknown.
func builtFrom(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return ""
	}
	commit, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = "+" + s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = ".dirty"
		}
	}
	if commit == "" {
		return ""
	}
	return commit + dirty
}

func versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: "Print the semantic version, MAJOR.MINOR.PATCH. Builds before the release of that number have the\n" +
			"suffix -dev and the commit.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "shunt %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
