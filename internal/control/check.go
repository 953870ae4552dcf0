package control

import (
	"fmt"
	"strings"

	"shunt/api"
)

// wrong makes a FieldError. What it repeats of a question may be as long as that was: it is cut.
func wrong(field, message string) error {
	return &api.FieldError{Field: Excerpt(field, 200), Message: Excerpt(message, 1000)}
}

// Excerpt is s, or its beginning and how long it is if it has more than n bytes.
func Excerpt(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(s[:n], ""), len(s))
}

// CheckChange tells what is missing or unknown in a change, whatever the director has; path is its
// place. The error is a *api.FieldError. Ranges of numbers are the director's to check.
func CheckChange(c *api.Change, path string) error {
	service, server := true, strings.HasSuffix(string(c.Op), "-server")
	switch c.Op {
	case api.OpAddService, api.OpEditService, api.OpDeleteService, api.OpAddServer, api.OpEditServer, api.OpDeleteServer:
	case api.OpFlush, api.OpSetTimeouts, api.OpZero:
		service = c.Op == api.OpZero && c.Service != nil
	default:
		return wrong(path+".op", fmt.Sprintf("%q is not known; there are %s", c.Op, opNames()))
	}
	switch {
	case service && c.Service == nil:
		return wrong(path+".service", "is missing")
	case server && c.Server == nil:
		return wrong(path+".server", "is missing")
	case c.Op == api.OpSetTimeouts && c.Timeouts == nil:
		return wrong(path+".timeouts", "is missing")
	}
	if service {
		if err := checkService(c.Service, path+".service"); err != nil {
			return err
		}
	}
	if server && !c.Server.Address.IsValid() {
		return wrong(path+".server.address", "is missing")
	}
	return nil
}

// opNames lists the operations for people.
func opNames() string {
	var names []string
	for _, op := range api.Ops() {
		names = append(names, string(op))
	}
	return strings.Join(names, ", ")
}

func checkService(s *api.VirtualService, path string) error {
	if s.Mark != 0 || s.Name != "" {
		return nil
	}
	switch strings.ToUpper(s.Protocol) {
	case "TCP", "UDP", "SCTP":
	default:
		return wrong(path+".protocol", fmt.Sprintf("%q is none of TCP, UDP and SCTP", s.Protocol))
	}
	if !s.Address.IsValid() {
		return wrong(path+".address", "is missing")
	}
	return nil
}
