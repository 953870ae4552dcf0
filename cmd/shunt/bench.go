package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"shunt/internal/config"
	"shunt/internal/replayrun"
)

func benchCmd() *cobra.Command {
	var path string
	var opt replayrun.BenchOptions
	var asJSON bool
	var megabytes int
	cmd := &cobra.Command{
		Use:   "bench -c FILE CAPTURE",
		Short: "Measure the CPU time per frame for a capture and a configuration",
		Long: "Read a capture into memory, pass it through the datapath repeatedly, and report the CPU time of\n" +
			"one worker per frame. File reading and networking are excluded. No privileges are needed. The\n" +
			"capture has the formats of `shunt replay`. The first round creates the flows and is not counted;\n" +
			"the following rounds measure established flows.",
		Example: "  shunt bench -c shunt.yaml in.pcap\n" +
			"  shunt bench -c shunt.yaml --duration 10s --json in.pcapng.gz",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("bench: name one capture, or - for standard input; got %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if opt.Duration <= 0 || opt.Duration > time.Hour {
				return usageError{fmt.Errorf("bench: --duration %v: must be more than 0 and at most 1h", opt.Duration)}
			}
			if megabytes < 1 || megabytes > 1<<20 {
				return usageError{fmt.Errorf("bench: --memory %d: must be 1 to %d MiB", megabytes, 1<<20)}
			}
			cfg, err := config.Load(cmd.Context(), path)
			if err != nil {
				return err
			}
			opt.Config, opt.Input, opt.Stdin, opt.Memory = cfg, args[0], os.Stdin, megabytes<<20
			if isTerminal(cmd.ErrOrStderr()) {
				opt.Progress = cmd.ErrOrStderr()
			}
			r, err := replayrun.Bench(cmd.Context(), opt)
			if err != nil {
				return err
			}
			if asJSON {
				return r.WriteJSON(cmd.OutOrStdout())
			}
			return r.WriteText(cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &path)
	timeFlag(cmd.Flags(), &opt.Duration, "duration", 3*time.Second, "how long to measure")
	cmd.Flags().IntVar(&megabytes, "memory", replayrun.DefaultBenchMemory>>20, "maximum size of the frames kept in memory, in MiB")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}
