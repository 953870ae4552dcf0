package ipvsadm

import "math/bits"

// A command is what the first option asks for.
type command int

const (
	cmdAdd command = iota
	cmdEdit
	cmdDelete
	cmdFlush
	cmdList
	cmdAddServer
	cmdDeleteServer
	cmdEditServer
	cmdSet
	cmdStartDaemon
	cmdStopDaemon
	cmdRestore
	cmdSave
	cmdZero
)

var commandNames = [...]string{
	"add-service", "edit-service", "delete-service", "flush", "list", "add-server", "delete-server", "edit-server",
	"set", "start-daemon", "stop-daemon", "restore", "save", "zero",
}

// A set of kinds of options. -t, -u and -f are of one kind, as are -g, -i and -m.
type set uint64

const (
	optNumeric set = 1 << iota
	optConnection
	optService
	optScheduler
	optPersistent
	optNetmask
	optServer
	optForward
	optWeight
	optUpper
	optLower
	optMcast
	optTimeout
	optDaemon
	optStats
	optRate
	optThresholds
	optPersistentConn
	optNoSort
	optSyncID
	optExact
	optOnePacket
	optEngine
	optSchedFlags
	optMcastGroup
	optMcastPort
	optMcastTTL
	optSyncMaxLen
	optTunInfo
	optTunType
	optTunPort
	optTunNoCsum
	optTunCsum
	optTunRemCsum
)

var optionNames = [...]string{
	"numeric", "connection", "service-address", "scheduler", "persistent", "netmask", "real-server", "forwarding-method",
	"weight", "u-threshold", "l-threshold", "mcast-interface", "timeout", "daemon", "stats", "rate", "thresholds",
	"persistent-conn", "nosort", "syncid", "exact", "ops", "pe", "sched-flags", "mcast-group", "mcast-port", "mcast-ttl",
	"sync-maxlen", "tun-info", "tun-type", "tun-port", "tun-nocsum", "tun-csum", "tun-remcsum",
}

// name is that of the lowest kind in the set.
func (s set) name() string { return optionNames[bits.TrailingZeros64(uint64(s))] }

// Rules of a command or a tunnel type: options that must be there, that may, and of which one at
// most may. All others are illegal.
type rules struct{ required, optional, exclusive set }

const (
	serviceSettings = optScheduler | optPersistent | optNetmask | optOnePacket | optEngine | optSchedFlags
	serverSettings  = optForward | optWeight | optUpper | optLower | tunnelOptions
	tunnelOptions   = optTunType | optTunPort | optTunNoCsum | optTunCsum | optTunRemCsum
	listOptions     = optNumeric | optStats | optRate | optThresholds | optPersistentConn | optNoSort | optSyncID | optExact | optTunInfo
)

// commandRules say the same as commands_v_options in ipvsadm.c.
var commandRules = [...]rules{
	cmdAdd:          {required: optService, optional: serviceSettings},
	cmdEdit:         {required: optService, optional: serviceSettings},
	cmdDelete:       {required: optService},
	cmdFlush:        {},
	cmdList:         {optional: listOptions, exclusive: optConnection | optService | optTimeout | optDaemon},
	cmdAddServer:    {required: optService | optServer, optional: serverSettings},
	cmdDeleteServer: {required: optService | optServer},
	cmdEditServer:   {required: optService | optServer, optional: serverSettings},
	cmdSet:          {},
	cmdStartDaemon:  {optional: optMcast | optSyncID | optMcastGroup | optMcastPort | optMcastTTL | optSyncMaxLen},
	cmdStopDaemon:   {optional: optSyncID},
	cmdRestore:      {},
	cmdSave:         {optional: optNumeric},
	cmdZero:         {optional: optService},
}

// The tunnel types, for which ipvsadm.c has the like in tunnel_types_v_options.
var (
	tunnelNames = [...]string{"ipip", "gue", "gre"}
	tunnelRules = [...]rules{
		{},
		{required: optTunPort, exclusive: optTunNoCsum | optTunCsum | optTunRemCsum},
		{exclusive: optTunNoCsum | optTunCsum},
	}
)

// check refuses options that do not go with the command, or with each other, in the order of
// ipvsadm's complaints.
func check(given set, r rules, of set, name, what string) error {
	var last set
	for kind := set(1); kind <= optTunRemCsum; kind <<= 1 {
		switch {
		case of&kind == 0:
		case given&kind == 0:
			if r.required&kind != 0 {
				return fail("You need to supply the '%s' option for the '%s' %s", kind.name(), name, what)
			}
		case r.exclusive&kind != 0 && last != 0:
			return fail("The option '%s' conflicts with the '%s' option in the '%s' %s", kind.name(), last.name(), name, what)
		case r.exclusive&kind != 0:
			last = kind
		case (r.required|r.optional)&kind == 0:
			return fail("Illegal '%s' option with the '%s' %s", kind.name(), name, what)
		}
	}
	return nil
}

// checkCommand is ipvsadm's generic_opt_check.
func checkCommand(c command, given set) error {
	return check(given, commandRules[c], ^set(0), commandNames[c], "command")
}

// checkTunnel is ipvsadm's tunnel_opt_check.
func checkTunnel(tunnel int, given set) error {
	return check(given, tunnelRules[tunnel], tunnelOptions&^optTunType, tunnelNames[tunnel], "tunnel type")
}
