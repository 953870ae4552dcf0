package ipvsadm

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode"

	"shunt/api"
)

// What the director was asked for besides changes, for the messages.
const (
	startDaemon    api.Op = "start-daemon"
	stopDaemon     api.Op = "stop-daemon"
	getService     api.Op = "get-service"
	getServices    api.Op = "get-services"
	getConnections api.Op = "get-connections"
)

// An errno is an error number of the kernel. It is a type of its own so that the ENOENT of a
// missing control socket is not taken for a missing scheduler.
type errno syscall.Errno

func (e errno) Error() string { return syscall.Errno(e).Error() }

// errnos are the kernel's numbers for the director's refusals (ip_vs_ctl.c).
var errnos = map[api.Code]syscall.Errno{
	api.CodeExists: syscall.EEXIST, api.CodeNoService: syscall.ESRCH, api.CodeServerExists: syscall.EEXIST, api.CodeNoServer: syscall.ENOENT,
	api.CodeUnknownScheduler: syscall.ENOENT, api.CodeUnknownEngine: syscall.ENOENT, api.CodeRange: syscall.ERANGE,
	api.CodeInvalid: syscall.EINVAL, api.CodeOwnAddress: syscall.EINVAL,
}

type failure struct {
	op    api.Op
	errno syscall.Errno
}

// words are ipvsadm's own for errors, by what was asked for (ipvs_strerror in libipvs.c).
var words = map[failure]string{
	{api.OpAddService, syscall.EEXIST}:   "Service already exists",
	{api.OpAddService, syscall.ENOENT}:   "Scheduler or persistence engine not found",
	{api.OpEditService, syscall.ESRCH}:   "No such service",
	{api.OpEditService, syscall.ENOENT}:  "Scheduler or persistence engine not found",
	{api.OpDeleteService, syscall.ESRCH}: "No such service",
	{api.OpZero, syscall.ESRCH}:          "No such service",
	{api.OpAddServer, syscall.ESRCH}:     "Service not defined",
	{api.OpAddServer, syscall.EEXIST}:    "Destination already exists",
	{api.OpEditServer, syscall.ESRCH}:    "Service not defined",
	{api.OpEditServer, syscall.ENOENT}:   "No such destination",
	{api.OpDeleteServer, syscall.ESRCH}:  "Service not defined",
	{api.OpDeleteServer, syscall.ENOENT}: "No such destination",
	{startDaemon, syscall.EEXIST}:        "Daemon has already run",
	{stopDaemon, syscall.ESRCH}:          "No daemon is running",
	{getServices, syscall.ESRCH}:         "No such service",
	{getService, syscall.ESRCH}:          "No such service",
}

// words that do not depend on it.
var anyWords = map[syscall.Errno]string{
	syscall.EPERM:        "Permission denied (you must be root)",
	syscall.EINVAL:       "Invalid operation.  Possibly wrong module version, address not unicast, ...",
	syscall.ENOPROTOOPT:  "Protocol not available",
	syscall.ENOMEM:       "Memory allocation problem",
	syscall.EOPNOTSUPP:   "Operation not supported with IPv6",
	syscall.EAFNOSUPPORT: "Operation not supported with specified address family",
	syscall.EMSGSIZE:     "Module is wrong version",
}

// numberOf is the kernel's number for an error of the director, or 0.
func numberOf(err error) syscall.Errno {
	var n errno
	var refused *api.Error
	switch {
	case errors.As(err, &n):
		return syscall.Errno(n)
	case errors.As(err, &refused):
		return errnos[refused.Code]
	}
	if _, _, ok := fieldOf(err); ok {
		return syscall.EINVAL
	}
	return 0
}

// message puts an error of the director into words.
func message(op api.Op, err error) string {
	n := numberOf(err)
	if n == 0 {
		return err.Error()
	}
	if s, ok := words[failure{op, n}]; ok {
		return s
	}
	if s, ok := anyWords[n]; ok {
		return s
	}
	return capital(n.Error()) // strerror(3) writes the first letter large
}

// explained is the message and, where the director knows it, the reason on a line of its own:
// scripts compare the first.
func explained(op api.Op, err error) string {
	if reason := reasonOf(err); reason != "" {
		return message(op, err) + "\n" + reason
	}
	return message(op, err)
}

// reasonOf is what the director says of a refusal for which ipvsadm has general words only.
func reasonOf(err error) string {
	var refused *api.Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case api.CodeInvalid, api.CodeRange, api.CodeOwnAddress, api.CodeUnknownScheduler, api.CodeUnknownEngine:
			return oneLine(refused.Message)
		}
	}
	if _, reason, ok := fieldOf(err); ok {
		return oneLine(reason)
	}
	return ""
}

// fieldOf takes the error about a field of a change apart: the change's index, and the reason.
func fieldOf(err error) (at int, reason string, ok bool) {
	var field *api.FieldError
	if !errors.As(err, &field) {
		return 0, "", false
	}
	var name string
	n, _ := fmt.Sscanf(field.Field, "changes[%d].%s", &at, &name)
	return at, name + ": " + field.Message, n == 2
}

// refusedAt is the index of the change that was refused, of n.
func refusedAt(err error, n int) int {
	at, _, _ := fieldOf(err)
	var refused *api.Error
	if errors.As(err, &refused) {
		at = refused.Change
	}
	return max(0, min(at, n-1))
}

// oneLine is a reason on one line that a terminal can show.
func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return api.Printable(s)
}

func capital(s string) string {
	for i, c := range s {
		if i == 0 {
			return string(unicode.ToUpper(c)) + strings.TrimPrefix(s, string(c))
		}
	}
	return s
}
