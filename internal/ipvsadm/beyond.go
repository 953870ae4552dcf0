package ipvsadm

import (
	"slices"
	"strconv"
	"strings"

	"shunt/api"
)

// What shunt's ipvsadm has beyond ipvsadm's: for Run only, so that all else is to the byte what it
// was.

// takeBeyond takes the options from args that ipvsadm does not have.
func (r *runner) takeBeyond(args []string) ([]string, error) {
	if !r.beyond || len(args) == 0 {
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
		return takeSelection(&r.selection, args)
	}
	return args, nil
}

// takeSelection takes the options from args that select connections (-L -c with --client,
// --service, --realserver, --state).
func takeSelection(sel *api.Selection, args []string) (rest []string, err error) {
	fields := map[string]*string{"--client": &sel.Client, "--service": &sel.Service, "--realserver": &sel.Realserver, "--state": &sel.State}
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
	if *sel != (api.Selection{}) && !slices.ContainsFunc(rest, func(a string) bool {
		return a == "--connection" || strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.Contains(a, "c")
	}) {
		return nil, fail("--client, --service, --realserver and --state choose connections: they go with -L -c")
	}
	return rest, nil
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
	if err := r.director.Apply(r.ctx, r.pending.changes); err != nil {
		at := refusedAt(err, len(r.pending.changes))
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
	changes []api.Change
	lines   []int
	line    int // at present
}

func nothingRestored(line int) string {
	return "line " + strconv.Itoa(line) + ": nothing was restored"
}
