// Package figures is what the status page, `shunt status` and `shunt top` have in common: how
// numbers are written, how a realserver fares in a word, and what an operator is to be warned of.
package figures

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"shunt/api"
)

// State is a realserver's in a word, with what it means and a class of colours.
type State struct{ Word, Class, Meaning string }

// StateOf tells how a realserver fares.
func StateOf(r *api.Realserver) State {
	switch {
	case r.MAC == "":
		return State{"no answer", "bad", "its MAC is not known: it does not answer ARP or neighbour discovery"}
	case r.Drained:
		return State{"drained", "off", "of weight 0, and its time to drain is over"}
	case !r.Available:
		return State{"full", "warn", "at its upper threshold: it gets no new connections for now"}
	case r.Weight == 0:
		return State{"draining", "off", "of weight 0: it gets no new connections"}
	}
	return State{"up", "good", "takes connections"}
}

// A Warning is something that an operator should do something about.
type Warning struct{ Title, Text string }

// Warnings lists what an operator should look at, the worst first.
func Warnings(o *api.Overview) []Warning {
	var out []Warning
	say := func(title, format string, args ...any) {
		out = append(out, Warning{title, fmt.Sprintf(format, args...)})
	}
	for _, c := range o.RecentConflicts() {
		if c.Realserver.IsValid() {
			say("Conflict over "+c.VIP.String(), "Realserver %s (%s) answers ARP for the VIP on %s: clients go past the director. There, set arp_ignore=1 and arp_announce=2.",
				c.Realserver, c.MAC, c.Leg)
		} else {
			say("Conflict over "+c.VIP.String(), "%s on %s claims the VIP: clients go there or here by chance. Find that host by its MAC.", c.MAC, c.Leg)
		}
	}
	guardWarnings(o, say)
	neighbourWarnings(o, say)
	for i := range o.Legs {
		if l := &o.Legs[i]; !l.Up {
			say("Leg "+l.Name+" is down", "Nothing is forwarded by interface %s until it is up.", l.Interface)
		}
	}
	for i := range o.Services {
		if s := &o.Services[i]; !slices.ContainsFunc(s.Realservers, func(r api.Realserver) bool { return StateOf(&r).Class == "good" }) {
			say("Service "+s.Name+" takes no new connections", "%s", whyNone(s.Realservers))
		}
	}
	if o.Capacity > 0 && o.Flows > o.Capacity/10*9 {
		say("The connection table is nearly full", "%s of %s entries. Raise flows in the configuration.", Count(o.Flows, " "), Count(o.Capacity, " "))
	}
	for i := range o.Legs {
		if l := &o.Legs[i]; l.RingFull > 0 {
			say("Frames were dropped at the ring of "+l.Name, "%s since the start. Raise ring.slots for bursts, workers for a steady load.", Count(l.RingFull, " "))
		}
	}
	if why := o.Unkept.Connections; why != "" {
		say("A restart will lose all connections", "%s", firstLine(why))
	}
	if why := o.Unkept.Changes; why != "" {
		say("A restart will lose the changes by the control socket", "%s", firstLine(why))
	}
	if o.Reload.Error != "" {
		say("The last reload was refused", "The old configuration stays in force. %s", firstLine(o.Reload.Error))
	}
	return out
}

// lossAge is how long it is of interest that somebody took the guard away.
const lossAge = 10 * time.Minute

func guardWarnings(o *api.Overview, say func(title, format string, args ...any)) {
	g := o.Guard
	if g == nil {
		return
	}
	by := ""
	if g.By != "" {
		by = " by " + g.By
	}
	switch {
	case g.Error != "":
		say("There is no guard", "The host's kernel sees the frames to the VIPs too: %s. It must neither have the VIPs nor route.", firstLine(g.Error))
	case g.Missing != "":
		say("The guard is missing", "Something takes it away again and again, and it is put back with growing pauses. Missing is %s.", g.Missing)
	case g.Restored > 0 && o.Now.Sub(g.Last) <= lossAge:
		say("The guard was taken away", "It was put back %s ago, for the %d. time since the start. It was taken away%s: whoever did it must leave the tables of "+
			"family netdev alone that begin with shunt_.", Ago(o.Now.Sub(g.Last)), g.Restored, by)
	}
	for _, v := range g.Exposed {
		say("The VIP "+v.String()+" is an address of this host", "Its kernel answers for it too, and refuses connections. The guard leaves it alone, "+
			"lest the host be cut off. Remove the address (ip addr del) or the service.")
	}
}

// mostNamed is how many realservers of a kind are warned of one by one.
const mostNamed = 5

// neighbourWarnings warn of realservers that do not answer, or for which another host answers too.
func neighbourWarnings(o *api.Overview, say func(title, format string, args ...any)) {
	silent := 0
	for i := range o.Neighbours {
		n := &o.Neighbours[i]
		if n.Disputes > 0 && o.Now.Sub(n.Disputed) <= lossAge {
			say("Two hosts answer for "+n.Address.String(), "The realserver keeps its MAC %s. Find the other, %s on %s, or give the MAC in the configuration (mac:).",
				n.MAC, n.Rival, n.Leg)
		}
		if n.State != api.Failed {
			continue
		}
		if silent++; silent <= mostNamed {
			say("Realserver "+n.Address.String()+" does not answer", "Since %s ago it answers neither ARP nor neighbour discovery on %s, and gets no new connections.",
				Ago(o.Now.Sub(n.Since)), n.Leg)
		}
	}
	if silent > mostNamed {
		say(fmt.Sprintf("%d more realservers do not answer", silent-mostNamed), "They get no new connections.")
	}
}

// whyNone tells why no realserver of a service takes new connections. That all were given weight 0
// is no fault, but whoever did it, a person or a health checker, should know that nobody is left.
func whyNone(servers []api.Realserver) string {
	silent, full, drained := 0, 0, 0
	for i := range servers {
		switch r := &servers[i]; {
		case r.Weight == 0:
			drained++
		case r.MAC == "":
			silent++
		default:
			full++
		}
	}
	switch len(servers) {
	case 0:
		return "It has no realserver."
	case drained:
		if drained == 1 {
			return "Its only realserver is drained (weight 0)."
		}
		return fmt.Sprintf("All its %d realservers are drained (weight 0).", drained)
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{silent, "not answering"}, {full, "full"}, {drained, "drained"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return "Its realservers: " + strings.Join(parts, ", ") + "."
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
