package ipvsadm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"shunt/api"
)

// progname is what ipvsadm calls itself in messages, by whatever path it was started.
const progname = "ipvsadm"

const defaultScheduler = "wlc"

// Run does what `shunt ipvsadm` does when it is started with args, which are without the program's
// name, and returns its exit status: what ipvsadm does, and what is in beyond.go. Names are looked
// up in /etc/services and by the system's resolver.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, d Director) (status int) {
	r := &runner{ctx: ctx, stdin: stdin, stderr: stderr, director: d, names: SystemNames(), beyond: true}
	return r.run(args, stdout)
}

// RunPlain does what ipvsadm does, and nothing else, with names of the caller's choice.
func RunPlain(args []string, stdin io.Reader, stdout, stderr io.Writer, d Director, names Names) (status int) {
	r := &runner{ctx: context.Background(), stdin: stdin, stderr: stderr, director: d, names: names}
	return r.run(args, stdout)
}

func (r *runner) run(args []string, stdout io.Writer) (status int) {
	r.out = bufio.NewWriter(stdout)
	defer r.out.Flush()
	status, err := r.start(args)
	var e *exit
	if errors.As(err, &e) {
		if e.text != "" {
			w := io.Writer(r.out)
			if e.status != 0 {
				w = r.stderr
			}
			fmt.Fprintln(w, e.text)
		}
		return e.status
	}
	return status
}

type runner struct {
	ctx      context.Context
	stdin    io.Reader
	out      *bufio.Writer
	stderr   io.Writer
	director Director
	names    Names

	beyond    bool          // what ipvsadm does not have is taken, too
	full      bool          // -S --full
	selection api.Selection // -L -c --client and others
	pending   *transaction  // while -R is one
}

// start opens the director, then runs the command line. Help is given without a director too, which
// ipvsadm does not do.
func (r *runner) start(args []string) (int, error) {
	if _, err := r.director.Status(r.ctx); err != nil {
		if o, _ := (&scanner{args: args}).option(); o != nil && (o.long == "help" || o.long == "version") {
			return r.line(args, false)
		}
		return 0, fail("Can't initialize ipvs: %s\nAre you sure that IP Virtual Server is built in the kernel or as module?",
			message("", err))
	}
	args, err := r.takeBeyond(args)
	if err != nil {
		return 0, err
	}
	if len(args) == 0 {
		return 0, r.listAll(format{})
	}
	return r.line(args, false)
}

// line runs one command line, process_options in ipvsadm.c. An *exit as its error ends the program;
// otherwise a line of -R that failed is followed by the next.
func (r *runner) line(args []string, restoring bool) (status int, err error) {
	q, err := parse(args, r.names)
	var bad *badOption
	if errors.As(err, &bad) {
		fmt.Fprintln(r.stderr, bad)
		return 255, nil
	}
	if err == nil {
		err = q.complete()
	}
	if err != nil {
		return 0, err
	}
	switch q.command {
	case cmdList:
		return 0, r.list(q)
	case cmdSave:
		if r.full {
			if err := r.listTimeouts("--set"); err != nil {
				return 0, err
			}
		}
		return 0, r.listAll(format{numeric: q.given&optNumeric != 0, rules: true})
	case cmdRestore:
		if restoring {
			return 0, tryHelp()
		}
		return r.restore()
	}
	if op, err := r.change(q); err != nil {
		fmt.Fprintln(r.stderr, explained(op, err))
		return 255, nil
	}
	return 0, nil
}

// complete checks what can be checked only of a whole line, and fills in what was left out.
func (q *request) complete() error {
	if err := checkCommand(q.command, q.given); err != nil {
		return err
	}
	switch v := &q.service; q.command {
	case cmdAdd, cmdEdit:
		if v.Mark == 0 && v.Port == 0 && v.Persistence == 0 {
			return fail("Zero port specified for non-persistent service")
		}
		if v.OnePacket && v.Mark == 0 && v.Protocol != UDP {
			return fail("One-Packet Scheduling is only for UDP virtual services")
		}
		if v.Scheduler == "" {
			v.Scheduler = defaultScheduler
		}
		if v.Persistence == 0 {
			SetPrefix(v, 128) // a netmask means nothing then
		}
	case cmdStartDaemon:
		if q.daemon.Interface == "" {
			q.daemon.Interface = "eth0"
		}
	case cmdAddServer, cmdEditServer:
		return q.completeServer()
	case cmdList:
		if q.given&(optConnection|optTimeout|optDaemon) != 0 && q.given&(optStats|optRate|optThresholds) != 0 ||
			q.given&(optTimeout|optDaemon) != 0 && q.given&optPersistentConn != 0 {
			return fail("options conflicts in the list command")
		}
	}
	return nil
}

// completeServer does it for -a and -e.
func (q *request) completeServer() error {
	// Only masquerading could change the port.
	if q.service.Mark == 0 && q.method != 'm' {
		q.server.Port = q.service.Port
	}
	if q.server.Address.Is6() != q.service.Is6() && q.method != 'i' {
		return fail("Different address family is allowed only for tunneling servers")
	}
	if q.given&tunnelOptions != 0 && q.method != 'i' {
		return fail("Tunnel options conflict with forward method")
	}
	if err := checkTunnel(q.tunnel, q.given); err != nil {
		return err
	}
	// What the kernel would do, and a director that only rewrites MAC addresses cannot.
	switch q.method {
	case 'm':
		return fail("-m (masquerading) is not possible: this director does direct routing only, use -g")
	case 'i':
		return fail("-i (tunneling) is not possible: this director does direct routing only, use -g")
	}
	return nil
}

// errNoSync is the answer to --start-daemon of a director that has no such daemons.
var errNoSync = errors.New("this director does not synchronize connections")

// change has the director do what is asked. It returns what that was, for the message.
func (r *runner) change(q *request) (op api.Op, err error) {
	syncer, syncs := r.director.(Syncer)
	switch q.command {
	case cmdStartDaemon:
		if !syncs {
			return startDaemon, errNoSync
		}
		return startDaemon, syncer.StartDaemon(q.daemon)
	case cmdStopDaemon:
		if !syncs {
			return stopDaemon, errNoSync
		}
		return stopDaemon, syncer.StopDaemon(q.daemon)
	}
	c := q.change()
	if p := r.pending; p != nil {
		p.changes, p.lines = append(p.changes, c), append(p.lines, p.line)
		return c.Op, nil
	}
	return c.Op, r.director.Apply(r.ctx, []api.Change{c})
}

// changeOps are the changes that commands are.
var changeOps = map[command]api.Op{
	cmdAdd: api.OpAddService, cmdEdit: api.OpEditService, cmdDelete: api.OpDeleteService, cmdFlush: api.OpFlush, cmdZero: api.OpZero,
	cmdAddServer: api.OpAddServer, cmdEditServer: api.OpEditServer, cmdDeleteServer: api.OpDeleteServer, cmdSet: api.OpSetTimeouts,
}

// change is what the director is asked for.
func (q *request) change() api.Change {
	c := api.Change{Op: changeOps[q.command]}
	switch q.command {
	case cmdFlush:
	case cmdSet:
		c.Timeouts = &q.timeouts
	case cmdZero:
		// libipvs names no service to the kernel if all that would identify it is zero.
		if v := &q.service; v.Mark != 0 || v.Port != 0 || v.Address.IsValid() && !v.Address.IsUnspecified() {
			c.Service = v
		}
	case cmdAddServer, cmdEditServer, cmdDeleteServer:
		c.Service, c.Server = &q.service, &q.server
	default:
		c.Service = &q.service
	}
	return c
}
