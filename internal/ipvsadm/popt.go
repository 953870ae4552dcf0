package ipvsadm

import "strings"

// An option of the command line. Options are told apart by their long names.
type option struct {
	long     string
	short    byte // 0: none
	arg      bool // takes an argument
	optional bool // of which one that begins with a dash is not meant to be it
}

// optionTable is in the order of ipvsadm.c's, though only "list", which has two short names, needs
// it.
var optionTable = []option{
	{long: "add-service", short: 'A'}, {long: "edit-service", short: 'E'}, {long: "delete-service", short: 'D'},
	{long: "clear", short: 'C'}, {long: "list", short: 'L'}, {long: "list", short: 'l'}, {long: "zero", short: 'Z'},
	{long: "add-server", short: 'a'}, {long: "edit-server", short: 'e'}, {long: "delete-server", short: 'd'},
	{long: "set"}, {long: "help", short: 'h'}, {long: "version", short: 'v'},
	{long: "restore", short: 'R'}, {long: "save", short: 'S'},
	{long: "start-daemon", arg: true}, {long: "stop-daemon", arg: true},

	{long: "tcp-service", short: 't', arg: true}, {long: "udp-service", short: 'u', arg: true},
	{long: "sctp-service", arg: true}, {long: "fwmark-service", short: 'f', arg: true},
	{long: "scheduler", short: 's', arg: true}, {long: "persistent", short: 'p', arg: true, optional: true},
	{long: "netmask", short: 'M', arg: true}, {long: "real-server", short: 'r', arg: true},
	{long: "masquerading", short: 'm'}, {long: "ipip", short: 'i'}, {long: "gatewaying", short: 'g'},
	{long: "weight", short: 'w', arg: true}, {long: "u-threshold", short: 'x', arg: true},
	{long: "l-threshold", short: 'y', arg: true}, {long: "numeric", short: 'n'}, {long: "connection", short: 'c'},
	{long: "mcast-interface", arg: true}, {long: "syncid", arg: true}, {long: "timeout"}, {long: "daemon"},
	{long: "stats"}, {long: "rate"}, {long: "thresholds"}, {long: "persistent-conn"}, {long: "nosort"}, {long: "sort"},
	{long: "exact", short: 'X'}, {long: "ipv6", short: '6'}, {long: "ops", short: 'o'}, {long: "pe", arg: true},
	{long: "sched-flags", short: 'b', arg: true}, {long: "mcast-group", arg: true}, {long: "mcast-port", arg: true},
	{long: "mcast-ttl", arg: true}, {long: "sync-maxlen", arg: true}, {long: "tun-info"}, {long: "tun-type", arg: true},
	{long: "tun-port", arg: true}, {long: "tun-nocsum"}, {long: "tun-csum"}, {long: "tun-remcsum"},
}

// A scanner takes options from an argument list as popt 1.19 does for ipvsadm (poptGetNextOpt,
// popt.c): options and other arguments may be mixed, short options clustered, and an argument
// follow at once, after "=" or as the next word.
type scanner struct {
	args    []string
	next    int
	cluster string   // what is left of clustered short options
	rest    bool     // after "--" nothing is an option
	others  []string // what was no option

	value    string // of the option that was found last
	hasValue bool
}

// A badOption is popt's complaint.
type badOption struct{ option, text string }

func (e *badOption) Error() string { return e.option + ": " + e.text }

// word is the argument that was looked at last, with which ipvsadm complains (poptBadOption).
func (s *scanner) word() string {
	if s.next == 0 {
		return progname
	}
	return s.args[s.next-1]
}

func (s *scanner) bad(text string) error { return &badOption{s.word(), text} }

// option returns the next option, or nil after the last.
func (s *scanner) option() (*option, error) {
	s.value, s.hasValue = "", false
	var o *option
	value, valued := "", false
	for s.cluster == "" && o == nil {
		if s.next == len(s.args) {
			return nil, nil
		}
		word := s.args[s.next]
		s.next++
		name, long := strings.CutPrefix(word, "--")
		switch {
		case s.rest || word == "-" || !strings.HasPrefix(word, "-"):
			s.others = append(s.others, word)
		case word == "--":
			s.rest = true
		case long:
			name, value, valued = strings.Cut(name, "=")
			if o = byName(name); o == nil {
				return nil, s.bad("unknown option")
			}
		default:
			s.cluster = word[1:]
		}
	}
	if o == nil {
		o = byLetter(s.cluster[0])
		s.cluster = s.cluster[1:]
		if o == nil {
			return nil, s.bad("unknown option")
		}
	}
	if !o.arg {
		if valued || strings.HasPrefix(s.cluster, "=") {
			return nil, s.bad("option does not take an argument")
		}
		return o, nil
	}
	s.hasValue = true
	switch {
	case valued:
		s.value = value
	case s.cluster != "":
		s.value, s.cluster = strings.TrimPrefix(s.cluster, "="), ""
	case s.next == len(s.args):
		if !o.optional {
			return nil, s.bad("missing argument")
		}
		s.hasValue = false
	case o.optional && strings.HasPrefix(s.args[s.next], "-"):
		s.hasValue = false
	default:
		s.value = s.args[s.next]
		s.next++
	}
	return o, nil
}

// other takes the next argument that is no option.
func (s *scanner) other() (string, bool) {
	if len(s.others) == 0 {
		return "", false
	}
	first := s.others[0]
	s.others = s.others[1:]
	return first, true
}

func byName(name string) *option {
	for i := range optionTable {
		if optionTable[i].long == name {
			return &optionTable[i]
		}
	}
	return nil
}

func byLetter(c byte) *option {
	for i := range optionTable {
		if c != 0 && optionTable[i].short == c {
			return &optionTable[i]
		}
	}
	return nil
}
