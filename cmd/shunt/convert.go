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

// withLosses is the exit status of a conversion with losses.
const withLosses = 3

func convertCmd() *cobra.Command {
	var opt convert.Options
	var output string
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "Convert keepalived.conf, `ipvsadm -S` output or ldirectord.cf to a configuration",
		Long: "Convert the virtual services of keepalived.conf, of `ipvsadm -S -n` output or of ldirectord.cf to\n" +
			"a configuration that `shunt check` accepts. The file is interpreted as by keepalived 2.2.7,\n" +
			"ipvsadm 1.31 or ldirectord 4.12. Settings without a counterpart are listed on standard error,\n" +
			"with file and line. A service that cannot work as written becomes a comment in the result. Lines\n" +
			"with \"note:\" describe behaviour of the other program. FILE may be - for standard input.\n\n" +
			"Exit status: 0 everything was converted, 3 converted with losses, 1 no service to convert.",
		Example: "  shunt convert /etc/keepalived/keepalived.conf > shunt.yaml\n" +
			"  ipvsadm -S -n | shunt convert - --interface eth0 -o shunt.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("convert: name one file, or - for standard input")}
			}
			if opt.Format != "" && !slices.Contains(convert.Formats, opt.Format) {
				return usageError{fmt.Errorf("--from %q: write %s", opt.Format, strings.Join(convert.Formats, ", "))}
			}
			result, err := convertFile(cmd.InOrStdin(), args[0], opt)
			for _, n := range result.Notes {
				fmt.Fprintln(cmd.ErrOrStderr(), n)
			}
			if err != nil && len(result.Config) == 0 {
				return err
			}
			if output != "" && err == nil {
				err = os.WriteFile(output, result.Config, 0o644)
			} else if _, werr := cmd.OutOrStdout().Write(result.Config); werr != nil {
				return werr
			}
			if n := result.Losses(); n > 0 && err == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: converted with losses (%d): see the lines above without \"note:\"\n", args[0], n)
				return exitStatus(withLosses)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&opt.Format, "from", "", strings.Join(convert.Formats, ", ")+" (default: detected from the content)")
	completeWords(cmd, "from", convert.Formats...)
	cmd.Flags().StringVar(&opt.Interface, "interface", "", "interface of the director (default: the interface of the VIPs in keepalived.conf, or eth0)")
	cmd.Flags().StringVar(&opt.ConfigID, "config-id", "", "configuration id of keepalived, for lines with @id (default: the host name)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "output file (default: standard output)")
	return cmd
}

func convertFile(stdin io.Reader, name string, opt convert.Options) (convert.Result, error) {
	if name != "-" {
		return convert.File(name, opt)
	}
	text, err := convert.ReadAll(stdin)
	if err != nil {
		return convert.Result{}, err
	}
	return convert.Text("standard input", text, opt)
}
