package ipvsadm

import (
	"errors"
	"strings"
	"syscall"
	"unicode"
)

// What the director was asked for besides changes, for the messages.
const (
	startDaemon Op = -1 - iota
	stopDaemon
	getService
	getServices
	getConnections
)

type failure struct {
	op    Op
	errno Errno
}

// words are ipvsadm's own for errors, by what was asked for (ipvs_strerror in libipvs.c).
var words = map[failure]string{
	{AddService, Errno(syscall.EEXIST)}:        "Service already exists",
	{AddService, Errno(syscall.ENOENT)}:        "Scheduler or persistence engine not found",
	{EditService, Errno(syscall.ESRCH)}:        "No such service",
	{EditService, Errno(syscall.ENOENT)}:       "Scheduler or persistence engine not found",
	{DeleteService, Errno(syscall.ESRCH)}:      "No such service",
	{ZeroService, Errno(syscall.ESRCH)}:        "No such service",
	{ZeroAll, Errno(syscall.ESRCH)}:            "No such service",
	{AddDestination, Errno(syscall.ESRCH)}:     "Service not defined",
	{AddDestination, Errno(syscall.EEXIST)}:    "Destination already exists",
	{EditDestination, Errno(syscall.ESRCH)}:    "Service not defined",
	{EditDestination, Errno(syscall.ENOENT)}:   "No such destination",
	{DeleteDestination, Errno(syscall.ESRCH)}:  "Service not defined",
	{DeleteDestination, Errno(syscall.ENOENT)}: "No such destination",
	{startDaemon, Errno(syscall.EEXIST)}:       "Daemon has already run",
	{stopDaemon, Errno(syscall.ESRCH)}:         "No daemon is running",
	{getServices, Errno(syscall.ESRCH)}:        "No such service",
	{getService, Errno(syscall.ESRCH)}:         "No such service",
}

// words that do not depend on it.
var anyWords = map[Errno]string{
	Errno(syscall.EPERM):        "Permission denied (you must be root)",
	Errno(syscall.EINVAL):       "Invalid operation.  Possibly wrong module version, address not unicast, ...",
	Errno(syscall.ENOPROTOOPT):  "Protocol not available",
	Errno(syscall.ENOMEM):       "Memory allocation problem",
	Errno(syscall.EOPNOTSUPP):   "Operation not supported with IPv6",
	Errno(syscall.EAFNOSUPPORT): "Operation not supported with specified address family",
	Errno(syscall.EMSGSIZE):     "Module is wrong version",
}

// message puts an error of the director into words.
func message(op Op, err error) string {
	var errno Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	if s, ok := words[failure{op, errno}]; ok {
		return s
	}
	if s, ok := anyWords[errno]; ok {
		return s
	}
	return capital(errno.Error()) // strerror(3) writes the first letter large
}

// explained is the message and, where the director knows it, the reason on a line of its own: scripts compare the first.
func explained(op Op, err error) string {
	var r *Refusal
	if !errors.As(err, &r) || r.Reason == "" {
		return message(op, err)
	}
	return message(op, err) + "\n" + r.Reason
}

func capital(s string) string {
	for i, c := range s {
		if i == 0 {
			return string(unicode.ToUpper(c)) + strings.TrimPrefix(s, string(c))
		}
	}
	return s
}
