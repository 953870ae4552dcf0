// Command replay measures what a frame costs a worker, without wires. `make bench-replay` runs it:
// it writes a table of results, plots and CPU profiles.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"shunt/bench/report"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == apartFlag {
		flows, err := strconv.Atoi(os.Args[2])
		if err == nil {
			err = serveApart(flows, os.Stdin, os.Stdout)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench-replay: the process apart: %v\n", err)
			os.Exit(1)
		}
		return
	}
	out := flag.String("out", "bench/results", "the directory to write to")
	rounds := flag.Int("rounds", 5, "how many rounds, in which all take turns")
	frames := flag.Uint64("frames", 1_000_000, "how many frames each gets in a round")
	small := flag.Bool("small", false, "tables of thousands of flows instead of millions: to see that it works")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 || *frames < 1 {
		fmt.Fprintln(os.Stderr, "usage: replay [--out DIR] [--rounds N] [--frames N] [--small]")
		os.Exit(2)
	}
	debug.SetGCPercent(400) // the bench itself makes garbage while it prepares; the datapath makes none
	if err := run(*out, *rounds, *frames, *small); err != nil {
		fmt.Fprintf(os.Stderr, "bench-replay: %v\n", err)
		os.Exit(1)
	}
}

func run(out string, rounds int, frames uint64, small bool) error {
	b := &bench{frames: frames, unit: 1_000_000, rep: &report.Report{
		Title: "Replay: what a frame costs", Time: time.Now(), Machine: report.ThisMachine(), Rounds: rounds}}
	if small {
		b.unit = 1000
	}
	defer b.close()
	if err := b.prepare(); err != nil {
		return err
	}
	for n := range rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", n+1, rounds)
		if err := b.round(); err != nil {
			return err
		}
	}
	if err := b.pauses(); err != nil {
		return err
	}
	b.goals()
	if err := b.rep.Write(out, "replay"); err != nil {
		return err
	}
	if err := b.plots(out); err != nil {
		return err
	}
	if err := b.profiles(out); err != nil {
		return err
	}
	fmt.Print(b.rep.Markdown())
	fmt.Printf("\nAll of it, plots and profiles are in %s. go tool pprof -http : %s/replay-known.pprof shows a flame graph.\n", out, out)
	return nil
}
