package director

import (
	"fmt"
	"strings"

	"shunt/api"
	"shunt/forwarder"
	"shunt/internal/config"
	"shunt/internal/control"
)

// maxTold is how many changes of a transaction the log names one by one.
const maxTold = 20

// tell has the log say what a transaction did, and who asked for it.
func (d *Director) tell(by control.Peer, t *translator) {
	for _, what := range t.told {
		d.log.Info("changed by the control socket", "what", what, "by", by)
	}
	if n := len(t.steps); n > len(t.told) {
		d.log.Info("changed by the control socket", "what", fmt.Sprintf("and %d more in the same transaction", n-len(t.told)), "changes", n, "by", by)
	}
}

// note puts a change that is about to be made into words, with what was before.
func (t *translator) note(s *step) {
	if len(t.told) < maxTold {
		t.told = append(t.told, string(s.Op)+t.words(s))
	}
}

func (t *translator) words(c *step) string {
	name, s, dest := "", &c.service, &c.dest
	if c.Service != nil {
		name = " " + api.Printable(s.Name)
	}
	switch c.Op {
	case api.OpFlush:
		return fmt.Sprintf(": VIPs before: %d", len(t.d.engine.VIPs()))
	case api.OpSetTimeouts:
		return ": " + t.timeoutWords(c.Timeouts)
	case api.OpAddService:
		return fmt.Sprintf("%s: %s, scheduler %s", name, s.Key(), s.Scheduler)
	case api.OpEditService:
		old, _ := t.d.engine.Lookup(s.Key())
		return name + ": " + list(config.DiffService(&old, s))
	case api.OpAddServer:
		return fmt.Sprintf("%s: realserver %s, weight %d", name, dest.Addr, dest.Weight)
	case api.OpEditServer:
		old, _ := t.d.engine.LookupDestination(s.Key(), dest.Addr, dest.Port)
		return fmt.Sprintf("%s: realserver %s: %s", name, dest.Addr, serverWords(&old, dest))
	case api.OpDeleteServer:
		return fmt.Sprintf("%s: realserver %s", name, dest.Addr)
	}
	return name
}

func serverWords(old, now *forwarder.Destination) string {
	var parts []string
	for _, v := range []struct {
		key      string
		old, now int32
	}{{"weight", old.Weight, now.Weight}, {"upper", old.Upper, now.Upper}, {"lower", old.Lower, now.Lower}} {
		if v.old != v.now {
			parts = append(parts, fmt.Sprintf("%s %d -> %d", v.key, v.old, v.now))
		}
	}
	if len(parts) == 0 {
		return "unchanged"
	}
	return strings.Join(parts, ", ")
}

func (t *translator) timeoutWords(v *api.Timeouts) string {
	was := timeoutsOf(t.d.engine.Settings())
	var parts []string
	for _, x := range []struct {
		key      string
		old, now float64
	}{{"tcp", was.TCP, v.TCP}, {"tcpfin", was.TCPFin, v.TCPFin}, {"udp", was.UDP, v.UDP}} {
		if x.now > 0 {
			parts = append(parts, fmt.Sprintf("%s %g s -> %g s", x.key, x.old, x.now))
		}
	}
	return strings.Join(parts, ", ")
}

func list(diff []api.Difference) string {
	if len(diff) == 0 {
		return "unchanged"
	}
	parts := make([]string, len(diff))
	for i := range diff {
		d := &diff[i]
		d.Service = "" // which is said already
		parts[i] = d.String()
	}
	return strings.Join(parts, ", ")
}
