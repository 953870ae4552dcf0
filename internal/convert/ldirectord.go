package convert

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"shunt/internal/ipvsadm"
)

// A virtual is a virtual= or virtual6= of ldirectord.cf with what belongs to it, as ldirectord 4.12
// reads them.
type virtual struct {
	place
	v6         bool
	address    string // ADDRESS:PORT with a number, as ipvsadm takes it; or the mark
	text       string // as it is written
	protocol   string // tcp, udp or fwm
	scheduler  string
	persistent string
	netmask    string
	flags      string
	service    string // that is checked
	check      string
	ops        bool
	quiescent  string
	reals      []ldReal
	leftOut    bool
}

// An ldReal is a real= with the range that it may have.
type ldReal struct {
	place
	first, last    string
	port           string
	method, weight string
	lower, upper   string
}

// ldirectord reads ldirectord.cf. A virtual= begins a service, and what is indented below belongs
// to it. Out of each ldirectord makes command lines of ipvsadm, and so is done here.
func (r *result) ldirectord(name, text string) {
	l := &ldReader{r: r, commands: &recorder{r: r}, quiescent: "no"}
	for i, line := range strings.Split(text, "\n") {
		l.line(place{name, i + 1}, strings.TrimSuffix(line, "\r"))
	}
	for _, v := range l.virtuals {
		l.finish(v)
	}
	r.noteChecks("ldirectord itself runs over shunt (docs/ipvsadm.md)")
}

// An ldReader reads ldirectord.cf line by line.
type ldReader struct {
	r         *result
	commands  *recorder
	virtuals  []*virtual
	now       *virtual // to which indented lines belong
	quiescent string   // for all services that say nothing
}

func (l *ldReader) line(p place, line string) {
	if strings.HasPrefix(strings.TrimLeft(line, blanks), "#") {
		return
	}
	indented := line != strings.TrimLeft(line, " \t")
	body := line
	if indented && l.now != nil {
		body, _, _ = strings.Cut(line, "#")
	}
	key, value, isSet := strings.Cut(strings.TrimLeft(body, blanks), "=")
	key, value = strings.TrimRight(key, blanks), strings.TrimLeft(value, blanks)
	switch {
	case key == "" && !isSet:
		if !indented {
			l.now = nil
		}
	case indented && l.now != nil:
		if spaces := strings.ReplaceAll(line, "\t", "    "); !strings.HasPrefix(spaces, "    ") {
			l.refused(p, "%s: it is indented by less than four blanks", key)
		}
		l.ofVirtual(p, key, value)
	case indented:
		l.refused(p, "%s: it is indented, and belongs to no virtual=", strings.TrimSpace(line))
	case key == "virtual" || key == "virtual6":
		l.begin(p, key == "virtual6", value)
	default:
		l.now = nil
		l.global(p, key, value, isSet)
	}
}

// refused notes what would keep ldirectord from starting.
func (l *ldReader) refused(p place, format string, args ...any) {
	l.r.lose(p, "%s: ldirectord would not start", fmt.Sprintf(format, args...))
}

// The forms of addresses. ldirectord does not look at what follows.
var (
	ldHost    = regexp.MustCompile(`^([0-9A-Za-z._+-]+):([0-9A-Za-z_-]+)`)
	ldMark    = regexp.MustCompile(`^[0-9]+`)
	ldAddress = regexp.MustCompile(`^\[([0-9A-Fa-f:]+)\]:([0-9A-Za-z_-]+)`)
	ldReals   = regexp.MustCompile(`(\d+\.\d+\.\d+\.\d+|[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?:->(\d+\.\d+\.\d+\.\d+|[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]))?(?::(\d+|[A-Za-z0-9_-]+))?\s+(.*)`)
	ldMethod  = regexp.MustCompile(`(\w+)(.*)`)
	ldWeight  = regexp.MustCompile(`\s+(\d+)(.*)`)
	ldRequest = regexp.MustCompile(`\s+"(.*)"[, ]\s*"(.*)"(.*)`)
	ldLower   = regexp.MustCompile(`\s+l:(\d+)(.*)`)
	ldUpper   = regexp.MustCompile(`\s+u:(\d+)(.*)`)
	digitsAt  = regexp.MustCompile(`\d+`)
	lettersAt = regexp.MustCompile(`[a-z]+`)
	wordAt    = regexp.MustCompile(`\w+`)
	noBlankAt = regexp.MustCompile(`\S+`)
)

// begin reads what a virtual= is: an address and a port, or a mark. Port 53 is UDP unless a
// protocol= says otherwise.
func (l *ldReader) begin(p place, v6 bool, value string) {
	v := &virtual{place: p, v6: v6, protocol: "tcp", scheduler: "wrr", check: "negotiate", text: value}
	l.now = v
	if m := ldHost.FindString(value); m != "" {
		v.address = m
	} else if m := ldMark.FindString(value); m != "" {
		v.address, v.protocol, v.service = m, "fwm", "none"
	} else if m := ldAddress.FindString(value); m != "" {
		if v.address = m; !v6 {
			l.refused(p, "virtual=%s: an address of IPv6 is a virtual6=; it is taken for one", value)
			v.v6 = true
		}
	} else {
		l.refused(p, "virtual=%s: it is no address and port", value)
		v.leftOut = true
		return
	}
	if strings.HasSuffix(v.address, ":53") || strings.HasSuffix(v.address, ":domain") {
		v.protocol = "udp"
	}
	l.virtuals = append(l.virtuals, v)
}

// ldServices are the services that can be checked.
const ldServices = " dns ftp http https http_proxy imap imaps ldap ldaps nntp mysql none oracle pop pops radius pgsql sip smtp submission simpletcp "

// ldCheckKeys are keys that say how to check, whom to tell, and what becomes of a realserver that
// fails: lost with the checks.
const ldCheckKeys = " request receive checkcommand checktimeout negotiatetimeout checkcount failurecount checkinterval checkport login passwd" +
	" database secret load httpmethod virtualhost emailalertfreq emailalertstatus cleanstop smtp servicename comment "

// ldLost are keys that mean something beside the checks, of which shunt has nothing.
const ldLost = " fallback fallback6 fallbackcommand emailalert monitorfile maintenancedir callback "

func (l *ldReader) ofVirtual(p place, key, value string) {
	v := l.now
	pick := func(to *string, form *regexp.Regexp) {
		if m := form.FindString(value); m != "" {
			*to = m
			return
		}
		l.refused(p, "%s=%s: it is not understood", key, value)
	}
	yesNo := func() bool {
		if value != "yes" && value != "no" {
			l.refused(p, "%s=%s: write yes or no", key, value)
		}
		return value == "yes"
	}
	switch {
	case key == "real" || key == "real6":
		if (key == "real6") != v.v6 && !strings.HasPrefix(v.text, "[") {
			l.refused(p, "%s=%s: real6= belongs to virtual6=", key, value)
		}
		l.real(p, value)
	case key == "scheduler":
		pick(&v.scheduler, lettersAt)
	case key == "persistent":
		pick(&v.persistent, digitsAt)
	case key == "schedflags":
		pick(&v.flags, noBlankAt)
	case key == "netmask":
		l.netmask(p, value)
	case key == "protocol":
		l.protocol(p, wordAt.FindString(value))
	case key == "ops":
		v.ops = yesNo()
	case key == "quiescent":
		yesNo()
		v.quiescent = value
	case key == "service":
		if v.service = wordAt.FindString(value); !strings.Contains(ldServices, " "+v.service+" ") {
			l.refused(p, "service=%s: there is no check of that service", value)
		}
	case key == "checktype":
		v.check = value
	case strings.Contains(ldLost, " "+key+" "):
		l.r.lose(p, "virtual=%s: %s=%s: no counterpart", v.text, key, value)
	case strings.Contains(ldCheckKeys, " "+key+" "):
	default:
		l.refused(p, "virtual=%s: there is no key %q", v.text, key)
	}
}

func (l *ldReader) netmask(p place, value string) {
	n, err := strconv.Atoi(value)
	a, notAddr := netip.ParseAddr(value)
	if l.now.v6 && (err != nil || n < 1 || n > 128) || !l.now.v6 && (notAddr != nil || !a.Is4()) {
		l.refused(p, "netmask=%s: it is a netmask of IPv4, or of IPv6 the length of a prefix", value)
		return
	}
	l.now.netmask = value
}

func (l *ldReader) protocol(p place, value string) {
	v := l.now
	switch {
	case v.protocol == "fwm" && value != "fwm", v.protocol != "fwm" && value != "tcp" && value != "udp":
		l.refused(p, "protocol=%s: it is tcp or udp for an address and port, and fwm for a mark", value)
	default:
		v.protocol = value
	}
}

// real reads ADDRESS[->ADDRESS][:PORT] METHOD [WEIGHT] ["REQUEST", "RECEIVE"] [l:LOWER] [u:UPPER].
func (l *ldReader) real(p place, value string) {
	m := ldReals.FindStringSubmatch(value)
	if m == nil {
		l.refused(p, "real=%s: it is not of the form ADDRESS:PORT METHOD", value)
		return
	}
	x := ldReal{place: p, first: m[1], last: m[2], port: m[3], weight: "1", lower: "0", upper: "0"}
	rest := m[4]
	if x.port == "" {
		x.port = "0"
	}
	f := ldMethod.FindStringSubmatch(rest)
	if f == nil || !slices.Contains([]string{"gate", "masq", "ipip"}, f[1]) {
		l.refused(p, "real=%s: the method is gate, masq or ipip", value)
		return
	}
	x.method, rest = f[1], f[2]
	take := func(form *regexp.Regexp, to *string) {
		if f := form.FindStringSubmatch(rest); f != nil {
			*to, rest = f[1], f[len(f)-1]
		}
	}
	before := rest
	var request string
	take(ldWeight, &x.weight)
	take(ldRequest, &request)
	if strings.HasPrefix(request, "/") {
		rest = "" // ldirectord 4.12 forgets it
	}
	take(ldLower, &x.lower)
	take(ldUpper, &x.upper)
	if strings.TrimSpace(rest) != "" {
		l.refused(p, "real=%s: %q is not understood", value, strings.TrimSpace(rest))
		return
	}
	if x.upper == "0" && ldUpper.MatchString(before) || x.lower == "0" && ldLower.MatchString(before) {
		l.r.remark(p, "real=%s: ldirectord 4.12 does not see a threshold behind a request that begins with /, nor u: before l:, and sets none", value)
	}
	l.now.reals = append(l.now.reals, x)
}

// ldSilent are global keys without which the services are the same.
const ldSilent = " checktimeout negotiatetimeout checkinterval checkcount failurecount autoreload logfile fork supervised" +
	" readdquiescent emailalertfreq emailalertstatus emailalertfrom cleanstop smtp "

func (l *ldReader) global(p place, key, value string, isSet bool) {
	switch {
	case key == "quiescent" && isSet:
		l.quiescent = value
	case isSet && strings.Contains(ldLost, " "+key+" "):
		l.r.lose(p, "%s=%s: no counterpart", key, value)
	case key == "execute":
		l.r.lose(p, "execute=%s: convert that file, too", value)
	case key == "supervised", isSet && strings.Contains(ldSilent, " "+key+" "):
	default:
		l.refused(p, "%q is not understood", key)
	}
}

// finish makes ipvsadm's command lines of a virtual=.
func (l *ldReader) finish(v *virtual) {
	proto := ipvsadm.TCP
	selector := []string{"-t", v.address}
	switch v.protocol {
	case "udp":
		proto, selector[0] = ipvsadm.UDP, "-u"
	case "fwm":
		if selector[0] = "-f"; v.v6 {
			selector = append(selector, "-6")
		}
	}
	add := append([]string{"-A"}, selector...)
	if v.protocol == "udp" && v.ops {
		add = append(add, "-o")
	}
	add = append(add, "-s", v.scheduler)
	if v.persistent != "" {
		add = append(add, "-p", v.persistent)
		if v.netmask != "" {
			add = append(add, "-M", v.netmask)
		}
	}
	if v.flags != "" {
		add = append(add, "-b", v.flags)
	}
	l.commands.line(v.place, add)
	l.noteCheck(v)
	if v.check == "off" {
		l.checkedOff(v, selector, proto)
		return
	}
	for i := range v.reals {
		l.addReals(v, &v.reals[i], selector, proto)
	}
}

// noteCheck notes that the realservers of a service were checked.
func (l *ldReader) noteCheck(v *virtual) {
	switch {
	case v.check == "on", v.check == "off", v.check == "negotiate" && v.service == "none":
	case v.check == "negotiate" && v.service != "":
		l.r.checked("checktype=negotiate service="+v.service, v.place)
	default:
		l.r.checked("checktype="+v.check, v.place)
	}
}
