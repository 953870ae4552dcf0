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
		Short: "Run a capture through the datapath and report the result",
		Long: "Forward the frames of a capture exactly as `shunt run` would: same code, same decisions, with the\n" +
			"capture's timestamps as time. No privileges are needed. The capture is a pcap or pcapng file of\n" +
			"Ethernet frames, optionally gzip-compressed; - is standard input. Frames to the VIPs are accepted\n" +
			"with any destination MAC; all other frames are only counted. Wrong checksums and missing lengths\n" +
			"are attributed to checksum and segmentation offload of the capturing host, unless --strict is\n" +
			"given. If the capture is damaged, the report covers the frames before the damage, and the exit\n" +
			"status is 1.\n\n" +
			"Forwarded frames are written to the file of -o, with the director's own replies: echo replies,\n" +
			"unreachables and resets. Realservers without mac: in the configuration get a MAC derived from\n" +
			"their address. The same capture and configuration always give the same output and report.\n\n" +
			"With --compare the capture passes through two configurations side by side. The report lists the\n" +
			"flows that the second configuration would send to another realserver, refuse, or newly accept.\n" +
			"No frames are written. The exit status is 0 whether flows move or not.",
		Example: "  shunt replay -c shunt.yaml in.pcapng\n" +
			"  shunt replay -c shunt.yaml in.pcap.gz -o out.pcap\n" +
			"  shunt replay -c shunt.yaml --compare other.yaml in.pcap\n" +
			"  tcpdump -i eth0 -c 10000 -w - | shunt replay -c shunt.yaml --json -",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("replay: name one capture, or - for standard input; got %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if opt.Output == "-" {
				return usageError{fmt.Errorf("replay: -o needs the name of a file: the report is written to standard output")}
			}
			if second != "" && opt.Output != "" {
				return usageError{fmt.Errorf("replay: --compare writes no frames: remove -o, or replay each configuration separately")}
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
	cmd.Flags().StringVarP(&opt.Output, "output", "o", "", "write the forwarded frames to this pcap file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also report the speed")
	cmd.Flags().StringVar(&second, "compare", "", "compare with the decisions of this configuration")
	cmd.Flags().BoolVar(&opt.All, "all", false, "list all services, realservers and, with --compare, moved flows, not only one screen of them")
	cmd.Flags().BoolVar(&opt.Strict, "strict", false, "treat wrong checksums and missing lengths as errors, not as offload of the network card")
	return cmd
}

// replayOrCompare returns the report, nil if there is none.
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

// report is the result of a replay or of a comparison.
type report interface {
	WriteText(w io.Writer) error
	WriteJSON(w io.Writer) error
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
