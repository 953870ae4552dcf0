package ipvsadm

import (
	"slices"
	"strconv"
	"strings"
)

// What shunt's ipvsadm has beyond ipvsadm's: for a Director that is Beyond only, so that all else is to the byte what it was.

// Beyond is a Director that can do more than the kernel's.
type Beyond interface {
	Director
	// Chosen is Connections for those that are chosen.
	Chosen(c Choice, fn func(Connection) bool) error
}

// A Choice chooses connections to be listed (-L -c with --client, --service, --realserver, --state); an empty field chooses all.
type Choice struct{ Client, Service, Realserver, State string }

// A ChangeError says which change of a transaction was refused.
type ChangeError struct {
	Index int
	Err   error
}

func (e *ChangeError) Error() string { return e.Err.Error() }
func (e *ChangeError) Unwrap() error { return e.Err }

// beyond takes the options from args that ipvsadm does not have.
func (r *runner) beyond(args []string) ([]string, error) {
	if _, ok := r.director.(Beyond); !ok || len(args) == 0 {
		return args, nil
	}
	first, err := (&scanner{args: args}).option()
	if err != nil || first == nil {
		return args, nil
	}
	switch first.long {
	case "save":
		rest := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--full" })
		r.full = len(rest) < len(args)
		return rest, nil
	case "list":
		return r.choice.take(args)
	}
	return args, nil
}

// take takes the options of a choice from args.
func (c *Choice) take(args []string) (rest []string, err error) {
	fields := map[string]*string{"--client": &c.Client, "--service": &c.Service, "--realserver": &c.Realserver, "--state": &c.State}
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(args[i], "=")
		to := fields[name]
		if to == nil {
			rest = append(rest, args[i])
			continue
		}
		if !has {
			if i++; i == len(args) {
				return nil, fail("option %s needs an argument", name)
			}
			value = args[i]
		}
		if value == "" {
			return nil, fail("option %s needs an argument", name)
		}
		*to = value
	}
	if *c != (Choice{}) && !slices.ContainsFunc(rest, func(a string) bool {
		return a == "--connection" || strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.Contains(a, "c")
	}) {
		return nil, fail("--client, --service, --realserver and --state choose connections: they go with -L -c")
	}
	return rest, nil
}

// connections lists all, or those that are chosen.
func (r *runner) connections(fn func(Connection) bool) error {
	if b, ok := r.director.(Beyond); ok && r.choice != (Choice{}) {
		return b.Chosen(r.choice, fn)
	}
	return r.director.Connections(fn)
}

// restoreWhole is -R as one transaction: either all lines take effect, or none.
func (r *runner) restoreWhole(next func() ([]string, bool)) (status int, err error) {
	r.pending = &transaction{}
	defer func() { r.pending = nil }()
	for line := 1; ; line++ {
		args, ok := next()
		if !ok {
			break
		}
		if len(args) == 0 {
			continue
		}
		r.pending.line = line
		if status, err = r.line(args, true); status != 0 || err != nil {
			return r.undone(line, status, err)
		}
	}
	if len(r.pending.changes) == 0 {
		return 0, nil
	}
	if err := r.director.Apply(r.pending.changes); err != nil {
		at := 0
		if e, ok := err.(*ChangeError); ok {
			at = min(e.Index, len(r.pending.changes)-1)
		}
		return r.undone(r.pending.lines[at], 255, &exit{255, explained(r.pending.changes[at].Op, err)})
	}
	return 0, nil
}

// undone says which line kept the table from being restored.
func (r *runner) undone(line, status int, err error) (int, error) {
	if e, ok := err.(*exit); ok {
		if e.status == 0 {
			return status, err // help or the version was asked for
		}
		e.text = strings.TrimSuffix(e.text, "\n")
		if e.text != "" {
			e.text += "\n"
		}
		return e.status, &exit{e.status, e.text + nothingRestored(line)}
	}
	return status, &exit{status, nothingRestored(line)}
}

// transaction collects the changes of -R, and the lines on which they are.
type transaction struct {
	changes []Change
	lines   []int
	line    int // at present
}

func nothingRestored(line int) string {
	return "line " + strconv.Itoa(line) + ": nothing was restored"
}
