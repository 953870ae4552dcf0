package confine

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"shunt/api"
)

// parse reads the lines of /proc/PID/status that are about privileges: proc_pid_status(5).
func parse(status []byte) api.Confinement {
	c := api.Confinement{Capabilities: []string{}}
	for s := bufio.NewScanner(bytes.NewReader(status)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "CapPrm":
			c.Capabilities = names(value)
		case "NoNewPrivs":
			c.NoNewPrivs = value == "1"
		case "Seccomp":
			c.Seccomp = value == "2"
		}
	}
	return c
}

// names are those of a set of capabilities in hexadecimal digits.
func names(hex string) []string {
	out := []string{}
	bits, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return out
	}
	for v := range cap.MaxBits() {
		if bits>>v&1 != 0 {
			out = append(out, v.String())
		}
	}
	return out
}
