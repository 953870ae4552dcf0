package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"shunt/internal/config"
	"shunt/internal/replayrun"
)

func replayCmd() *cobra.Command {
	var path, second string
	var opt replayrun.CompareOptions
	var asJSON, verbose bool
	cmd := &cobra.Command{
		Use:   "replay -c FILE [--compare FILE] CAPTURE",
		Short: "Run a capture through the datapath and report what became of it",
		Long: "Forward what a capture holds exactly as `shunt run` would: same code, same decisions, with the capture's time. It\n" +
			"needs no privileges. The capture is a pcap or pcapng file of Ethernet frames, gzip-compressed or not; - is\n" +
			"standard input. Frames to the VIPs are taken whatever their destination MAC is; all others are only counted. Wrong\n" +
			"checksums and missing lengths are taken as left to a network card, as on a host that sends, unless --strict is given.\n" +
			"Of a capture that is damaged there is a report on what comes before, and the exit status is 1.\n\n" +
			"What is sent goes to the file of -o, with the director's own answers: echo replies, unreachables and resets.\n" +
			"Realservers without a mac: in the configuration get one derived from their address. The same capture and\n" +
			"configuration always give the same bytes and the same report.\n\n" +
			"With --compare the capture goes through two configurations side by side, and the report tells which flows the\n" +
			"second would send to another realserver than the first, or refuse, or take up. Nothing is written. The exit status\n" +
			"is 0 whether flows move or not.",
		Example: "  shunt replay -c shunt.yaml in.pcapng\n" +
			"  shunt replay -c shunt.yaml in.pcap.gz -o out.pcap\n" +
			"  shunt replay -c shunt.yaml --compare other.yaml in.pcap\n" +
			"  tcpdump -i eth0 -c 10000 -w - | shunt replay -c shunt.yaml --json -",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("replay: name one capture, or - for standard input; there are %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if opt.Output == "-" {
				return usageError{fmt.Errorf("replay: the report goes to standard output; name a file by -o")}
			}
			if second != "" && opt.Output != "" {
				return usageError{fmt.Errorf("replay: --compare writes no frames: take away -o, or replay with each configuration alone")}
			}
			cfg, err := config.Load(cmd.Context(), path)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			opt.Config, opt.Input, opt.Stdin = cfg, args[0], os.Stdin
			opt.Speed = verbose || !asJSON && isTerminal(out)
			if isTerminal(cmd.ErrOrStderr()) {
				opt.Progress = cmd.ErrOrStderr()
			}
			r, err := replayOrCompare(cmd.Context(), &opt, second)
			if r == nil {
				return err
			}
			write := r.WriteText
			if asJSON {
				write = r.WriteJSON
			}
			return errors.Join(write(out), err) // a capture that ends in damage has a report, too
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVarP(&opt.Output, "output", "o", "", "write what is sent to this pcap file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "report as JSON")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "report the speed too")
	cmd.Flags().StringVar(&second, "compare", "", "tell what this configuration would decide otherwise")
	cmd.Flags().BoolVar(&opt.All, "all", false, "list all services, realservers and, with --compare, moved flows, not only what fits a screen")
	cmd.Flags().BoolVar(&opt.Strict, "strict", false, "take wrong checksums and missing lengths as they are, not as left to the network card")
	return cmd
}

// replayOrCompare makes the report, which is nil if there is none.
func replayOrCompare(ctx context.Context, opt *replayrun.CompareOptions, second string) (report, error) {
	if second == "" {
		r, err := replayrun.Run(ctx, opt.Options)
		if r == nil {
			return nil, err
		}
		return r, err
	}
	var err error
	if opt.Second, err = config.Load(ctx, second); err != nil {
		return nil, fmt.Errorf("--compare: %w", err)
	}
	c, err := replayrun.Compare(ctx, *opt)
	if c == nil {
		return nil, err
	}
	return c, err
}

// report is what a replay or a comparison has to tell.
type report interface {
	WriteText(w io.Writer) error
	WriteJSON(w io.Writer) error
}

// isTerminal reports whether a person is likely to look at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
