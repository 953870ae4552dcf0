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

// withLosses is the exit status of a conversion that gave a configuration which lacks something.
const withLosses = 3

func convertCmd() *cobra.Command {
	var opt convert.Options
	var output string
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "Make a configuration of keepalived.conf, `ipvsadm -S` or ldirectord.cf",
		Long: "Turn the virtual services of keepalived.conf, of the output of `ipvsadm -S -n`, or of ldirectord.cf into a configuration\n" +
			"that `shunt check` accepts: what keepalived 2.2.7, ipvsadm 1.31 or ldirectord 4.12 would make of the file. What has no\n" +
			"counterpart is listed on standard error, with file and line; a service that cannot work as it is written stands in the\n" +
			"result as a comment. Lines with \"note:\" say what the other program would do, too. FILE may be - for standard input.\n\n" +
			"The exit status is 0 if all was converted, 3 if the result lacks something, and 1 if there is nothing to serve.",
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
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: converted with losses (%d): the lines above without \"note:\" say which\n", args[0], n)
				return exitStatus(withLosses)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&opt.Format, "from", "", strings.Join(convert.Formats, ", ")+" (default: as the file looks)")
	completeWords(cmd, "from", convert.Formats...)
	cmd.Flags().StringVar(&opt.Interface, "interface", "", "the director's interface (default: that of the VIPs in keepalived.conf, or eth0)")
	cmd.Flags().StringVar(&opt.ConfigID, "config-id", "", "keepalived's configuration id, for lines with @id (default: the host's name)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
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
