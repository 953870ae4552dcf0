package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"shunt/internal/convert"
)

func convertCmd() *cobra.Command {
	var opt convert.Options
	var output string
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "Make a configuration of keepalived.conf, `ipvsadm -S` or ldirectord.cf",
		Long: "Turn the virtual services of keepalived.conf, of the output of `ipvsadm -S -n`, or of ldirectord.cf into a configuration\n" +
			"that `shunt check` accepts. What has no counterpart is listed on standard error, with file and line; a service that cannot\n" +
			"work as it is written stands in the result as a comment. FILE may be - for standard input.",
		Example: "  shunt convert /etc/keepalived/keepalived.conf > shunt.yaml\n" +
			"  ipvsadm -S -n | shunt convert - --interface eth0 -o shunt.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("convert: name one file, or - for standard input")}
			}
			if opt.Format != "" && !slices.Contains(convert.Formats, opt.Format) {
				return usageError{fmt.Errorf("--from %q: write %s", opt.Format, strings.Join(convert.Formats, ", "))}
			}
			text, notes, err := convertFile(cmd.InOrStdin(), args[0], opt)
			for _, n := range notes {
				fmt.Fprintln(cmd.ErrOrStderr(), n)
			}
			if err != nil && len(text) == 0 {
				return err
			}
			if output != "" && err == nil {
				return os.WriteFile(output, text, 0o644)
			}
			if _, werr := cmd.OutOrStdout().Write(text); werr != nil {
				return werr
			}
			return err
		},
	}
	cmd.Flags().StringVar(&opt.Format, "from", "", strings.Join(convert.Formats, ", ")+" (default: as the file looks)")
	cmd.Flags().StringVar(&opt.Interface, "interface", "", "the director's interface (default: that of the VIPs in keepalived.conf, or eth0)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

func convertFile(stdin io.Reader, name string, opt convert.Options) ([]byte, []convert.Note, error) {
	if name != "-" {
		return convert.File(name, opt)
	}
	text, err := io.ReadAll(stdin)
	if err != nil {
		return nil, nil, err
	}
	return convert.Text("standard input", text, opt)
}
