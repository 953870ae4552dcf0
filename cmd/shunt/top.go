package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"shunt/api"
	"shunt/internal/top"
)

func topCmd() *cobra.Command {
	var socket string
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the running director, and drain realservers",
		Long: "Show services and realservers with their rates, verdicts on frames, rings and the connection\n" +
			"table, refreshed every second. Keys sort, filter, and drain the selected realserver after a\n" +
			"confirmation; ? shows the keys.\n\n" +
			"NO_COLOR disables colours.",
		Example: "  shunt top\n  shunt top --socket web2 --interval 5s",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond || interval > time.Hour {
				return usageError{fmt.Errorf("--interval %s: write 100ms to 1h", interval)}
			}
			d := api.NewClient(socket)
			first, err := d.Overview(cmd.Context())
			if err != nil {
				return err
			}
			if !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stdout.Fd())) || os.Getenv("TERM") == "dumb" {
				return errors.New("top needs a terminal; shunt status prints the same once")
			}
			host, _ := os.Hostname()
			_, err = tea.NewProgram(top.New(d, host, first, interval), tea.WithContext(cmd.Context())).Run()
			if errors.Is(err, tea.ErrProgramKilled) && cmd.Context().Err() != nil {
				return nil // ended by a signal
			}
			return err
		},
	}
	socketFlag(cmd.Flags(), &socket)
	timeFlag(cmd.Flags(), &interval, "interval", time.Second, "refresh interval")
	return cmd
}
