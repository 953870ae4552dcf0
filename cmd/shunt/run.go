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
		Short: "Run the director",
		Long: "Take over the VIPs of the configuration and forward their traffic until SIGTERM or SIGINT.\n" +
			"SIGHUP reloads the file. If the file is invalid, the old configuration stays in force. If it is\n" +
			"valid, services and realservers that remain keep their connections and counters.\n\n" +
			"The capabilities CAP_NET_RAW and CAP_NET_ADMIN are required.",
		Example: "  shunt run -c /etc/shunt/shunt.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return forward(cmd.Context(), path, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// startPace makes the garbage collector run less often until the returned function is called.
// Nearly all memory allocated at the start stays in use. With 10,000 services, collecting it would
// take a fifth of the start. An explicit GOGC is left alone.
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
		log.Error("a worker stopped", "error", err)
	} else {
		log.Info("stopping: releasing the VIPs")
	}
	if err := d.Close(); err != nil {
		log.Error("stopping failed", "error", err)
	}
	if err != nil {
		return fmt.Errorf("a worker stopped: %w", err)
	}
	return nil
}

// reloadOn reloads for each SIGHUP and each request of the control socket, until ctx is done.
// SIGHUPs during a reload cause one more reload: the channel holds one.
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

// askReload requests a reload from reloadOn and waits for the result.
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
		log.Info("reload cancelled: the director is stopping")
		return ctx.Err()
	}
	if err == nil {
		err = d.Reload(cfg)
	} else {
		err = d.Refused(err)
		d.Reread(err)
	}
	if err != nil {
		log.Error("new configuration rejected: the old configuration stays in force", "error", err)
	}
	return err
}

// tell notifies systemd if systemd started this process: sd_notify(3).
func tell(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be notified", "state", state, "error", err)
	}
}
