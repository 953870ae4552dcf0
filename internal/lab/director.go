package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"shunt/api"
)

// A Director is a running `shunt run` on the director's host.
type Director struct {
	*api.Client
	ConfigPath string

	cmd    *exec.Cmd
	log    *logBuffer
	notify *net.UnixConn
	ended  chan struct{}
	err    error
}

// logBuffer keeps what a command writes, and writes it on.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
	also io.Writer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(p)
	if b.also != nil {
		_, _ = b.also.Write(p)
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// startPatience is how long a director may take until it says that it is ready, and stopPatience
// until it has ended, on a machine with more to do than it can.
const (
	startPatience = time.Minute
	stopPatience  = 30 * time.Second
)

// Start writes a configuration into dir, runs binary's `run` with it, and waits until the director
// notifies that it is ready, as for systemd. socket is the control socket of the configuration. log
// may be nil.
func (n *Network) Start(binary, dir, config, socket string, log io.Writer) (*Director, error) {
	d := &Director{
		Client: api.NewClient(socket), ConfigPath: filepath.Join(dir, "shunt.yaml"), log: &logBuffer{also: log}, ended: make(chan struct{}),
	}
	if err := os.WriteFile(d.ConfigPath, []byte(config), 0o644); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "notify.sock")
	_ = os.Remove(path)
	var err error
	d.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	d.cmd = exec.Command(binary, "run", "-c", d.ConfigPath)
	d.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := n.Director.Start(d.cmd); err != nil {
		d.notify.Close()
		return nil, err
	}
	go func() {
		d.err = d.cmd.Wait()
		d.notify.Close()
		close(d.ended)
	}()
	if err := d.await("READY=1", startPatience); err != nil {
		_ = d.cmd.Process.Kill()
		<-d.ended
		return nil, fmt.Errorf("%w; its log:\n%s", err, d.log)
	}
	return d, nil
}

// await waits for a notification.
func (d *Director) await(state string, patience time.Duration) error {
	buf := make([]byte, 512)
	_ = d.notify.SetReadDeadline(time.Now().Add(patience))
	for {
		n, err := d.notify.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("the director stopped without notifying %s", state)
		}
		if err != nil {
			return fmt.Errorf("the director did not notify %s: %w", state, err)
		}
		if strings.Contains(string(buf[:n]), state) {
			return nil
		}
	}
}

// Reload writes another configuration, makes the director reload it, and waits until the director
// has accepted or rejected it.
func (d *Director) Reload(config string) error {
	if err := os.WriteFile(d.ConfigPath, []byte(config), 0o644); err != nil {
		return err
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return d.await("READY=1", startPatience)
}

// Log returns the director's log so far.
func (d *Director) Log() string { return d.log.String() }

// PID returns the process id.
func (d *Director) PID() int { return d.cmd.Process.Pid }

// Stop stops the director by SIGTERM. The error is nil if the director exited normally.
func (d *Director) Stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(stopPatience):
		_ = d.cmd.Process.Kill()
		<-d.ended
		return fmt.Errorf("the director did not stop within %s of SIGTERM", stopPatience)
	}
	if d.err != nil {
		return fmt.Errorf("the director stopped with an error: %w; its log:\n%s", d.err, d.log)
	}
	return nil
}

// Signal sends a signal to the director.
func (d *Director) Signal(s os.Signal) error { return d.cmd.Process.Signal(s) }

// Kill kills the director without cleanup.
func (d *Director) Kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// Connections returns the connection table.
func (d *Director) Connections(ctx context.Context) (out []api.Connection, err error) {
	err = d.Client.Connections(ctx, &api.Selection{}, func(c api.Connection) bool {
		out = append(out, c)
		return true
	})
	return out, err
}
