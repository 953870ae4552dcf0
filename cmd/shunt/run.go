package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"shunt/internal/config"
	"shunt/internal/confine"
	"shunt/internal/director"
	"shunt/internal/logs"
)

func runCmd() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Be a director",
		Long: "Take the VIPs of the configuration and forward what is sent to them until SIGTERM or SIGINT.\n" +
			"SIGHUP reads the file again: if it is wrong, the old configuration stays in force; if it is right, connections\n" +
			"and counters of what stays live on.\n\n" +
			"It needs the capabilities CAP_NET_RAW and CAP_NET_ADMIN.",
		Example: "  shunt run -c /etc/shunt/shunt.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return forward(cmd.Context(), path, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// startPace has the garbage collector come more rarely, until what it returns is called: what a start makes stays, nearly all of it, and
// looking for what does not would be a fifth of a start with ten thousand services. Who has set GOGC is obeyed.
func startPace() (usual func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(300)
	return func() { debug.SetGCPercent(before) }
}

// forward runs a director until ctx is done.
func forward(ctx context.Context, path string, stderr io.Writer) error {
	usual := startPace()
	cfg, err := config.Load(ctx, path)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	log := logs.New(stderr, cfg.Log.Format, level)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before the start, so that an early one does not end us
	defer signal.Stop(hup)
	asked := make(chan chan<- error) // by the control socket
	d, err := director.Start(cfg, director.Options{Log: log, Level: level, Version: version, Confine: confine.Apply, Reload: func(ctx context.Context) error {
		return askReload(ctx, asked)
	}})
	if err != nil {
		return err
	}
	usual()
	tell(log, daemon.SdNotifyReady)
	if every, err := daemon.SdWatchdogEnabled(false); err == nil && every > 0 {
		watched, stop := context.WithCancel(ctx)
		defer stop()
		go d.Watchdog(watched, every/3, func() { tell(log, daemon.SdNotifyWatchdog) })
	}
	reloading, giveUp := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() { reloadOn(reloading, hup, asked, func() error { return reload(reloading, d, path, log) }) })
	err = d.Wait(ctx)
	giveUp()
	reloads.Wait()
	tell(log, daemon.SdNotifyStopping)
	if err != nil {
		log.Error("a worker ended", "error", err)
	} else {
		log.Info("ending: giving back the VIPs")
	}
	if err := d.Close(); err != nil {
		log.Error("ending", "error", err)
	}
	if err != nil {
		return fmt.Errorf("a worker ended: %w", err)
	}
	return nil
}

// reloadOn reloads for each SIGHUP, and when it is asked to, until ctx is done. SIGHUPs that come during a reload cause one more: the
// channel holds one.
func reloadOn(ctx context.Context, hup <-chan os.Signal, asked <-chan chan<- error, reload func() error) {
	for {
		select {
		case <-hup:
			_ = reload() // it is logged
		case answer := <-asked:
			answer <- reload()
		case <-ctx.Done():
			return
		}
	}
}

// askReload has reloadOn read the file again, and waits for what becomes of it.
func askReload(ctx context.Context, asked chan<- chan<- error) error {
	answer := make(chan error, 1)
	select {
	case asked <- answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func reload(ctx context.Context, d *director.Director, path string, log *slog.Logger) error {
	now := unix.Timespec{}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil { // Type=notify-reload wants to know since when
		tell(log, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
	}
	defer tell(log, daemon.SdNotifyReady)
	cfg, err := config.Load(ctx, path)
	if ctx.Err() != nil {
		log.Info("the reload is given up: the director ends")
		return ctx.Err()
	}
	if err == nil {
		err = d.Reload(cfg)
	} else {
		err = d.Refused(err)
		d.Reread(err)
	}
	if err != nil {
		log.Error("the old configuration stays in force: the new one is refused", "error", err)
	}
	return err
}

// tell notifies systemd, if it started us: sd_notify(3).
func tell(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd was not told", "state", state, "error", err)
	}
}
