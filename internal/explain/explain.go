// Package explain implements `shunt explain`: it explains the path of a packet, for a running
// director or for a configuration.
package explain

import (
	"fmt"
	"io"
	"strings"
	"time"

	"shunt/api"
	"shunt/forwarder"
)

// Of converts an explanation to the form of the API.
func Of(x *forwarder.Explanation) api.Explanation {
	out := api.Explanation{
		Tuple: x.Tuple.String(), Verdict: x.Verdict.String(), Meaning: x.Verdict.Meaning(), Decider: api.Decider(x.Decider),
		Service: x.Name, Scheduler: x.Scheduler, State: x.State, Expires: x.Expires.Seconds(),
		Candidates: []api.Candidate{},
	}
	if x.Service != (forwarder.ServiceKey{}) {
		out.Key = x.Service.String()
	}
	if x.Chosen.IsValid() {
		out.Realserver = x.Chosen
		if !x.MAC.IsZero() {
			out.MAC = x.MAC.String()
		}
	}
	for _, c := range x.Candidates {
		out.Candidates = append(out.Candidates, api.Candidate{
			Realserver: c.Addr, Weight: c.Weight, Active: c.Active, Inactive: c.Inactive, Reason: c.Reason, Chosen: c.Chosen,
		})
	}
	return out
}

// Print writes an explanation as text.
func Print(w io.Writer, x *api.Explanation) {
	fmt.Fprintf(w, "packet    %s\n", x.Tuple)
	if x.Key == "" {
		fmt.Fprintf(w, "service   none\n")
	} else {
		name := x.Key
		if x.Service != "" && x.Service != x.Key {
			name = x.Service + ": " + x.Key
		}
		fmt.Fprintf(w, "service   %s, scheduler %s\n", api.Printable(name), x.Scheduler)
	}
	switch x.Decider {
	case api.ByFlow:
		fmt.Fprintf(w, "decided   by its connection: state %s, %s left\n", x.State, left(x.Expires))
	case api.ByTemplate:
		fmt.Fprintf(w, "decided   by the client's persistence: its template has %s left\n", left(x.Expires))
	case api.ByScheduler:
		fmt.Fprintf(w, "decided   by the scheduler: the packet would start a connection\n")
	}
	switch {
	case x.Verdict == forwarder.Forwarded.String():
		fmt.Fprintf(w, "goes to   %s", x.Realserver)
		if x.MAC != "" {
			fmt.Fprintf(w, ", MAC %s", x.MAC)
		}
		fmt.Fprintln(w)
	case x.Realserver.IsValid():
		fmt.Fprintf(w, "verdict   %s: %s (%s)\n", x.Verdict, x.Meaning, x.Realserver)
	default:
		fmt.Fprintf(w, "verdict   %s: %s\n", x.Verdict, x.Meaning)
	}
	if len(x.Candidates) == 0 {
		return
	}
	fmt.Fprintf(w, "\nRealservers, in the scheduler's order:\n")
	width := 0
	for _, c := range x.Candidates {
		width = max(width, len(c.Realserver.String()))
	}
	for _, c := range x.Candidates {
		mark := "  "
		if c.Chosen {
			mark = "->"
		}
		fmt.Fprintf(w, "%s %-*s  weight %-5d active %-6d inactive %-6d %s\n", mark, width, c.Realserver, c.Weight, c.Active, c.Inactive, c.Reason)
	}
}

// left writes seconds as ipvsadm does.
func left(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	return strings.TrimSpace(fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60))
}
