package ipvsadm

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"shunt/api"
)

// A request is what a command line asks for.
type request struct {
	command  command
	given    set
	service  api.VirtualService
	server   api.VirtualServer
	timeouts api.Timeouts
	method   byte // of forwarding: 'g', 'i' or 'm'
	tunnel   int
	daemon   Daemon

	flags string // -b, not yet parsed, as -s may follow
}

// An exit ends the program, also in the middle of -R.
type exit struct {
	status int
	text   string // for standard error
}

func (e *exit) Error() string { return e.text }

// fail is how ipvsadm ends when it does not like what it was told.
func fail(format string, args ...any) error {
	return &exit{2, fmt.Sprintf(format, args...)}
}

// tryHelp is how it ends when it does not understand it. Its exit(-1) is 255.
func tryHelp() error {
	return &exit{255, fmt.Sprintf("Try `%s -h' or '%s --help' for more information.", progname, progname)}
}

var commandOptions = map[string]command{
	"add-service": cmdAdd, "edit-service": cmdEdit, "delete-service": cmdDelete, "add-server": cmdAddServer,
	"edit-server": cmdEditServer, "delete-server": cmdDeleteServer, "clear": cmdFlush, "list": cmdList, "zero": cmdZero,
	"set": cmdSet, "restore": cmdRestore, "save": cmdSave, "start-daemon": cmdStartDaemon, "stop-daemon": cmdStopDaemon,
}

// parse reads a command line as parse_options of ipvsadm.c does. The first option has to be the
// command; a further one is as wrong as an option that nobody knows. Its error is an *exit or a
// *badOption.
func parse(args []string, names Names) (*request, error) {
	q := &request{method: 'g'}
	q.server.Weight = 1
	s := &scanner{args: args}
	o, err := s.option()
	if err != nil || o == nil {
		return nil, tryHelp()
	}
	switch o.long {
	case "help":
		return nil, &exit{0, helpText}
	case "version":
		return nil, &exit{0, versionText}
	}
	var ok bool
	if q.command, ok = commandOptions[o.long]; !ok {
		return nil, tryHelp()
	}
	if o.arg {
		if err := q.daemonState(s.value); err != nil {
			return nil, err
		}
	}
	for {
		if o, err = s.option(); err != nil {
			return nil, err
		}
		if o == nil {
			break
		}
		if err := q.take(o, s, names); err != nil {
			return nil, err
		}
	}
	return q, q.finish(s)
}

// daemonState reads which daemon to start or stop.
func (q *request) daemonState(s string) error {
	switch {
	case s == "master":
	case s == "backup":
		q.daemon.Backup = true
	case q.command == cmdStartDaemon:
		return fail("illegal start-daemon parameter specified")
	default:
		return fail("illegal start_daemon specified")
	}
	return nil
}

// finish reads what is no option, and what had to wait for other options.
func (q *request) finish(s *scanner) error {
	if q.command == cmdSet {
		if len(s.others) < 3 {
			return fail("--set option requires 3 timeout values")
		}
		for _, t := range []*float64{&q.timeouts.TCP, &q.timeouts.TCPFin, &q.timeouts.UDP} {
			text, _ := s.other()
			n, err := parseTimeout(text, 0)
			if err != nil {
				return err
			}
			*t = float64(n)
		}
	}
	if text, ok := s.other(); ok {
		return fail("unexpected argument %s", text)
	}
	if q.flags != "" {
		scheduler := q.service.Scheduler
		if scheduler == "" {
			scheduler = defaultScheduler
		}
		var err error
		q.service.Flags, err = parseFlags(scheduler, q.flags)
		return err
	}
	return nil
}

// set notes that an option was given, which may be only once.
func (q *request) set(kind set) error {
	if q.given&kind != 0 {
		return fail("multiple '%s' options specified", kind.name())
	}
	q.given |= kind
	return nil
}

// kinds are of the options that may be given once. The others are commands, --sort, which means
// nothing, and -6.
var kinds = map[string]set{
	"tcp-service": optService, "udp-service": optService, "sctp-service": optService, "fwmark-service": optService,
	"scheduler": optScheduler, "persistent": optPersistent, "netmask": optNetmask, "real-server": optServer,
	"masquerading": optForward, "ipip": optForward, "gatewaying": optForward, "weight": optWeight,
	"u-threshold": optUpper, "l-threshold": optLower, "numeric": optNumeric, "connection": optConnection,
	"mcast-interface": optMcast, "syncid": optSyncID, "timeout": optTimeout, "daemon": optDaemon, "stats": optStats,
	"rate": optRate, "thresholds": optThresholds, "persistent-conn": optPersistentConn, "nosort": optNoSort,
	"exact": optExact, "ops": optOnePacket, "pe": optEngine, "sched-flags": optSchedFlags, "mcast-group": optMcastGroup,
	"mcast-port": optMcastPort, "mcast-ttl": optMcastTTL, "sync-maxlen": optSyncMaxLen, "tun-info": optTunInfo,
	"tun-type": optTunType, "tun-port": optTunPort, "tun-nocsum": optTunNoCsum, "tun-csum": optTunCsum,
	"tun-remcsum": optTunRemCsum,
}

// take reads an option that is not the command.
func (q *request) take(o *option, s *scanner, names Names) error {
	kind, known := kinds[o.long]
	if err := q.set(kind); err != nil {
		return err
	}
	switch {
	case o.long == "sort":
		return nil
	case o.long == "ipv6":
		if q.service.Mark == 0 {
			return fail("-6 used before -f\n")
		}
		q.service.V6 = true
		SetPrefix(&q.service, 128)
		return nil
	case !known:
		return fail("invalid option `%s'", s.word())
	case kind&(serviceSettings|optService) != 0:
		return q.takeService(o, s, names)
	case kind&(serverSettings|optServer) != 0:
		return q.takeServer(o, s, names)
	}
	return q.takeDaemon(o, s)
}

// takeService reads an option of a service.
func (q *request) takeService(o *option, s *scanner, names Names) (err error) {
	v := &q.service
	switch o.long {
	case "tcp-service":
		return q.address(TCP, s.value, names)
	case "udp-service":
		return q.address(UDP, s.value, names)
	case "sctp-service":
		return q.address(SCTP, s.value, names)
	case "fwmark-service":
		v.Mark, err = parseMark(s.value)
	case "scheduler":
		v.Scheduler = cut(s.value, 15)
	case "persistent":
		// The manual says 300 seconds; libipvs.h has 6 minutes.
		seconds := 360
		if s.hasValue {
			seconds, err = parseTimeout(s.value, 1)
		}
		v.Persistence = float64(seconds)
	case "netmask":
		return q.takeNetmask(s.value, names)
	case "ops":
		v.OnePacket = true
	case "pe":
		v.Engine = cut(s.value, 15)
	case "sched-flags":
		q.flags = cut(s.value, 127)
	}
	return err
}

// cut is what becomes of a string in a buffer of C that has n bytes for it.
func cut(s string, n int) string { return s[:min(len(s), n)] }

func (q *request) address(proto, text string, names Names) error {
	addr, port, ok := parseService(text, proto, names)
	if !ok {
		return fail("illegal virtual server address[:port] specified")
	}
	v := &q.service
	v.Protocol, v.Address, v.Port = proto, addr, uint16(max(port, 0))
	if addr.Is6() {
		SetPrefix(v, 128)
	}
	return nil
}

// takeNetmask reads -M, which is of the family that the service has so far.
func (q *request) takeNetmask(text string, names Names) error {
	if q.service.Is6() {
		n := atoi(text)
		if n < 1 || n > 128 {
			return fail("illegal ipv6 netmask specified")
		}
		SetPrefix(&q.service, int(n))
		return nil
	}
	mask, ok := host4(text, names)
	if !ok {
		return fail("illegal virtual server persistent mask specified")
	}
	SetNetmask(&q.service, mask)
	return nil
}

// takeServer reads an option of a destination.
func (q *request) takeServer(o *option, s *scanner, names Names) error {
	d := &q.server
	limited := func(to *int32, what string) error {
		n, ok := number(s.value, 0, math.MaxInt32)
		if !ok {
			return fail("illegal %s specified", what)
		}
		*to = int32(n)
		return nil
	}
	switch o.long {
	case "real-server":
		// The protocol is for the name of the port, and is not known if -r comes before -t.
		addr, port, ok := parseService(s.value, q.service.Protocol, names)
		if !ok {
			return fail("illegal real server address[:port] specified")
		}
		if port < 0 {
			port = int(q.service.Port)
		}
		d.Address, d.Port = addr, uint16(port)
	case "gatewaying", "ipip", "masquerading":
		q.method = o.short
	case "weight":
		return limited(&d.Weight, "weight")
	case "u-threshold":
		return limited(&d.Upper, "u_threshold")
	case "l-threshold":
		return limited(&d.Lower, "l_threshold")
	case "tun-type":
		for i, name := range tunnelNames {
			if name == s.value {
				q.tunnel = i
				return nil
			}
		}
		return fail("illegal tunnel type specified")
	case "tun-port":
		if _, ok := number(s.value, 1, 65535); !ok {
			return fail("illegal tunnel port specified")
		}
	}
	return nil
}

// takeDaemon reads an option of the daemons that synchronize connections. Those of listings have
// nothing to be read.
func (q *request) takeDaemon(o *option, s *scanner) error {
	d := &q.daemon
	limited := func(to *int, low, high int64) (err error) {
		var ok bool
		if *to, ok = number(s.value, low, high); !ok {
			err = fail("illegal %s specified", o.long)
		}
		return err
	}
	switch o.long {
	case "mcast-interface":
		d.Interface = cut(s.value, 15)
	case "syncid":
		return limited(&d.SyncID, 0, 255)
	case "mcast-port":
		return limited(&d.Port, 1, 65535)
	case "mcast-ttl":
		return limited(&d.TTL, 1, 255)
	case "sync-maxlen":
		return limited(&d.MaxLen, 1, 65535-20-8)
	case "mcast-group":
		family := "IPv4"
		if strings.Contains(s.value, ":") {
			family = "IPv6"
		}
		group, err := netip.ParseAddr(s.value)
		if err != nil || !group.IsMulticast() || group.Zone() != "" || group.Is6() != (family == "IPv6") {
			return fail("invalid %s mcast-group `%s'", family, s.value)
		}
		d.Group = group
	}
	return nil
}
