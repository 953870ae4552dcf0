package realserver

import (
	"errors"
	"fmt"
	"strings"
)

// Script writes what Apply does as a script for sh, which needs ip(8) and sysctl(8), for hosts that have no shunt. It looks
// at nothing on this host, so the interface must be given.
func Script(o Options) error {
	if o.Interface == "" {
		return errors.New("--script does not look at this host: name the realserver's interface by --interface")
	}
	if strings.ContainsAny(o.Interface, " '\"\\$`;&|<>()/\n") {
		return fmt.Errorf("--interface %q is no name of an interface", o.Interface)
	}
	fmt.Fprintf(o.Out, "#!/bin/sh\n# Makes this host a realserver of direct routing for %s. It may be run again.\n# It lasts until the next boot.\nset -e\n",
		join(o.VIPs))
	for _, s := range o.steps() {
		switch x := s.(type) {
		case *sysctl:
			fmt.Fprintf(o.Out, "\n# otherwise %s\n", x.why)
		case *address:
			fmt.Fprintf(o.Out, "\n# the VIP\n")
		case *route:
			fmt.Fprintf(o.Out, "\n# answers leave by the gateway, not by the director\n")
		}
		fmt.Fprintln(o.Out, s.command())
	}
	return nil
}

func join[T fmt.Stringer](list []T) string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = x.String()
	}
	return strings.Join(out, ", ")
}
