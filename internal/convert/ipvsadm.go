package convert

import (
	"slices"
	"strconv"
	"strings"

	"shunt/internal/ipvsadm"
)

// ipvsadm reads what `ipvsadm -S` writes, and other lines that `ipvsadm -R` would read: each is
// carried out as shunt ipvsadm does.
func (r *result) ipvsadm(name string, text string) {
	c := &recorder{r: r}
	for i, line := range strings.Split(text, "\n") {
		at := place{name, i + 1}
		words := slices.DeleteFunc(strings.Fields(line), func(w string) bool { return w == "ipvsadm" })
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case words[0] == "-R" || words[0] == "--restore" || words[0] == "-L" || words[0] == "-l" || words[0] == "--list" || words[0] == "-S" || words[0] == "--save":
			r.lose(at, "%.200s: it changes nothing and is ignored", line)
		default:
			r.otherPort(at, words)
			c.line(at, words)
		}
	}
}

// otherPort notes a realserver's port that is not the service's: without masquerading ipvsadm takes
// the service's.
func (r *result) otherPort(at place, words []string) {
	var virtual, to string
	proto := ipvsadm.TCP
	for i := 0; i+1 < len(words); i++ {
		switch words[i] {
		case "-t", "--tcp-service":
			virtual = words[i+1]
		case "-u", "--udp-service":
			virtual, proto = words[i+1], ipvsadm.UDP
		case "--sctp-service":
			virtual, proto = words[i+1], ipvsadm.SCTP
		case "-r", "--real-server":
			to = words[i+1]
		}
	}
	if slices.Contains(words, "-m") || slices.Contains(words, "--masquerading") || portOf(virtual) == "" {
		return
	}
	own, other := r.port(portOf(virtual), proto), r.port(portOf(to), proto)
	if other > 0 && own != other {
		r.remark(at, "realserver %s: direct routing cannot change the port: it is the service's, %d", to, own)
	}
}

// port is a port's number, by number or name; 0 if there is none.
func (r *result) port(s, proto string) uint16 {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return uint16(n)
	}
	n, _ := r.names.Port(s, proto)
	return n
}

// portOf is what follows the address in ADDRESS:PORT.
func portOf(s string) string {
	if strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") {
		return ""
	}
	_, port, _ := strings.Cut(s[strings.LastIndexByte(s, ']')+1:], ":")
	return port
}
