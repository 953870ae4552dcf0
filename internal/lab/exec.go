package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// `shunt lab exec` does not enter the namespaces of the laboratory, for which it would need to be
// root or single-threaded: it hands its standard input, output and error to the laboratory, which
// starts the command.

const execSocket = "exec.sock"

// command is what the caller sends, together with three file descriptors; after it, one byte for
// each signal.
type command struct {
	Host string
	Args []string
	Dir  string
	Env  []string
}

// outcome is what comes back.
type outcome struct {
	Status int
	Error  string
}

// execPlace is what commands are told beside what they are.
type execPlace struct {
	binary string   // which one "shunt" is
	dir    string   // for their files, as all hosts share one /run
	env    []string // beside the caller's
}

// serveExec starts commands on the hosts of a network, until stop.
func serveExec(n *Network, place execPlace) (stop func(), err error) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(place.dir, execSocket), Net: "unix"})
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				o := serveOne(c, n, &place)
				_ = json.NewEncoder(c).Encode(o)
			}()
		}
	})
	return func() { _ = ln.Close(); wg.Wait() }, nil
}

// serveOne starts one command and waits for its end.
func serveOne(c *net.UnixConn, n *Network, place *execPlace) outcome {
	fail := func(err error) outcome { return outcome{Status: 1, Error: err.Error()} }
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(3*4))
	k, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return fail(err)
	}
	files, err := received(oob[:oobn])
	if err != nil {
		return fail(err)
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	var cmd command
	if err := json.Unmarshal(buf[:k], &cmd); err != nil || len(files) != 3 || len(cmd.Args) == 0 {
		return fail(errors.New("unknown request: check that both shunt programs have the same version"))
	}
	h := n.Hosts[cmd.Host]
	if h == nil {
		names := make([]string, 0, len(n.Hosts))
		for name := range n.Hosts {
			names = append(names, name)
		}
		slices.Sort(names)
		return fail(fmt.Errorf("unknown host %q: the hosts are %s", cmd.Host, strings.Join(names, ", ")))
	}
	path := cmd.Args[0]
	if path == "shunt" {
		path = place.binary
	}
	e := exec.Command(path, cmd.Args[1:]...)
	e.Stdin, e.Stdout, e.Stderr = files[0], files[1], files[2]
	e.Dir, e.Env = cmd.Dir, append(cmd.Env, "SHUNT_LAB_HOST="+cmd.Host, "SHUNT_REALSERVER_STATE="+filepath.Join(place.dir, cmd.Host+"-realserver.json"))
	e.Env = append(e.Env, place.env...)
	if err := h.Start(e); err != nil {
		return fail(err)
	}
	go func() { // signals, until the caller goes: then the command is to go too
		b := make([]byte, 1)
		for {
			if _, err := c.Read(b); err != nil {
				_ = e.Process.Signal(syscall.SIGHUP)
				return
			}
			_ = e.Process.Signal(syscall.Signal(b[0]))
		}
	}()
	err = e.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return outcome{}
	case errors.As(err, &exit):
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			return outcome{Status: 128 + int(st.Signal())}
		}
		return outcome{Status: exit.ExitCode()}
	}
	return fail(err)
}

// received takes the file descriptors out of a message.
func received(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var out []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return out, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			out = append(out, os.NewFile(uintptr(fd), "standard"))
		}
	}
	return out, nil
}

// Exec runs a command on a host of a lab, with the standard input and output of this process, and
// returns its exit status. name may be empty if only one lab is running.
func Exec(name, host string, args []string) (status int, err error) {
	c, err := find(name)
	if err != nil {
		return 1, err
	}
	defer c.Close()
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	b, err := json.Marshal(command{Host: host, Args: args, Dir: dir, Env: os.Environ()})
	if err != nil {
		return 1, err
	}
	if len(b) > 64<<10 {
		return 1, errors.New("command and environment are longer than 64 KiB")
	}
	rights := unix.UnixRights(int(os.Stdin.Fd()), int(os.Stdout.Fd()), int(os.Stderr.Fd()))
	if _, _, err := c.WriteMsgUnix(b, rights, nil); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			_, _ = c.Write([]byte{byte(s.(syscall.Signal))})
		}
	}()
	var o outcome
	if err := json.NewDecoder(c).Decode(&o); err != nil {
		if errors.Is(err, io.EOF) {
			return 1, errors.New("the lab was stopped")
		}
		return 1, err
	}
	if o.Error != "" {
		return o.Status, errors.New(o.Error)
	}
	return o.Status, nil
}
