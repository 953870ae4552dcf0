// Package confine gives up what a process does not need: capabilities, files, system calls. Whoever
// takes it over by a fault in it has no more than that.
//
// Everything is given up on all threads, for good, and for all programs that it executes. Each part
// is tried by itself: an old kernel, or a process without the right to, gets the parts that it can
// have, and the report says what is missing.
package confine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"shunt/api"
)

// A Policy says what a process keeps. Files that are open stay open.
type Policy struct {
	// Read are files and directories, and what is below them, that may be read. Those that are
	// missing are left out.
	Read []string
	// Write are directories in which, and below which, files may be read, written, made, renamed
	// and removed.
	Write []string
	// Sockets are directories in which unix sockets, and nothing else, may be made, and files
	// removed.
	Sockets []string
	// Execute are programs that may be executed, and directories whose programs and libraries may
	// be. Without any, executing is not among the system calls that are left. They run with what
	// this process has.
	Execute []string
}

// keep are the capabilities that a director needs to run, to follow its interfaces, and to change
// its guard.
var keep = []cap.Value{cap.NET_ADMIN, cap.NET_RAW}

// Apply gives up everything else, and reports what is in force then.
func Apply(p Policy) api.Confinement {
	status, err := os.Open("/proc/self/status") // which cannot be opened any more afterwards, if the policy is so
	if err == nil {
		defer status.Close()
	}
	var missing []string
	try := func(what string, err error) {
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", what, err))
		}
	}
	_, err = cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	try("no_new_privs", err)
	try("capabilities", dropCapabilities())
	version, err := restrictFiles(p)
	try("landlock", err)
	try("seccomp", restrictCalls(len(p.Execute) > 0))
	text, _ := io.ReadAll(status)
	c := parse(text)
	c.Landlock, c.Missing = version, missing
	return c
}

// dropCapabilities keeps of the capabilities that this process has those that a director needs, and
// leaves no way to others.
func dropCapabilities() error {
	now := cap.GetProc()
	var errs []error
	if ambient(now) {
		errs = append(errs, cap.ResetAmbient())
	}
	if may, _ := now.GetFlag(cap.Effective, cap.SETPCAP); may {
		var others []cap.Value
		for v := range cap.MaxBits() {
			if bound, err := cap.GetBound(v); err == nil && bound && !slices.Contains(keep, v) {
				others = append(others, v)
			}
		}
		if len(others) > 0 {
			errs = append(errs, cap.DropBound(others...))
		}
	}
	left := cap.NewSet()
	for _, v := range keep {
		if have, _ := now.GetFlag(cap.Permitted, v); have {
			errs = append(errs, left.SetFlag(cap.Permitted, true, v), left.SetFlag(cap.Effective, true, v))
		}
	}
	return errors.Join(append(errs, left.SetProc())...)
}

// ambient reports whether any capability would be kept by programs that are executed.
func ambient(now *cap.Set) bool {
	for v := range cap.MaxBits() {
		if a, err := cap.GetAmbient(v); err == nil && a {
			return true
		}
	}
	return false
}

// restrictFiles leaves the files of the policy. Landlock is Linux 5.13 and later; older kernels
// know fewer rights.
func restrictFiles(p Policy) (version int, err error) {
	if version, err = ll.LandlockGetABIVersion(); err != nil || version <= 0 {
		return 0, errors.New("the kernel does not have it, or has not switched it on (lsm=)")
	}
	rules := []landlock.Rule{landlock.RWDirs(p.Write...).IgnoreIfMissing()}
	const look = ll.AccessFSReadFile | ll.AccessFSReadDir
	for _, path := range p.Read {
		rules = append(rules, access(look, path))
	}
	for _, path := range p.Sockets {
		rules = append(rules, access(look|ll.AccessFSMakeSock|ll.AccessFSRemoveFile, path))
	}
	for _, path := range p.Execute {
		rules = append(rules, access(look|ll.AccessFSExecute, path))
	}
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		return 0, err
	}
	return version, nil
}

// access is a rule for a directory, or of it what a file can have.
func access(rights landlock.AccessFSSet, path string) landlock.Rule {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		rights &= ll.AccessFSReadFile | ll.AccessFSExecute
	}
	return landlock.PathAccess(rights, path).IgnoreIfMissing()
}

// Refused explains an error that may be landlock's, and returns others as they are.
func Refused(err error, what string) error {
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w; the director gave up access to files other than %s when it started: move the file there, or restart the director", err, what)
}
