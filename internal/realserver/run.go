package realserver

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ErrWrong means that a setting of the host is wrong. The findings have been written.
var ErrWrong = errors.New("this host is not configured as a realserver")

// Finding is the state of one setting, for JSON.
type Finding struct {
	OK     bool   `json:"ok"`
	What   string `json:"what"`             // how it is
	Want   string `json:"want,omitempty"`   // how it should be
	Why    string `json:"why,omitempty"`    // what goes wrong otherwise
	Remedy string `json:"remedy,omitempty"` // a command
}

// Look reads all settings and changes none.
func Look(o Options) ([]Finding, error) {
	if err := o.findInterfaces(); err != nil {
		return nil, err
	}
	var out []Finding
	for _, s := range o.steps() {
		st, err := s.look()
		if err != nil {
			return out, err
		}
		f := Finding{OK: st.ok, What: st.what, Want: st.want, Why: st.why}
		if !st.ok {
			f.Remedy = s.command()
			if st.byHand != "" {
				f.Remedy = st.byHand
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// Check writes the state of all settings. The error is ErrWrong if one of them is wrong.
func Check(o Options) error {
	found, err := Look(o)
	wrong := 0
	for _, f := range found {
		if f.OK {
			fmt.Fprintf(o.Out, "[ok]    %s\n", f.What)
			continue
		}
		wrong++
		fmt.Fprintf(o.Out, "[WRONG] %s\n        should be: %s\n        otherwise: %s\n        remedy:    %s\n", f.What, f.Want, f.Why, f.Remedy)
	}
	if err != nil {
		return err
	}
	if wrong > 0 {
		fmt.Fprintf(o.Out, "%d of %d settings are wrong; `shunt realserver apply` corrects them\n", wrong, len(found))
		return ErrWrong
	}
	return nil
}

// Apply corrects all wrong settings, step by step, and records the previous value of each. With dry
// it only writes the commands. With Persist it makes the settings permanent, too; with Root it does
// only that. Before the first change, Apply rejects conflicts that it would have to remove.
func Apply(o Options, dry bool) error {
	if err := o.findInterfaces(); err != nil {
		return err
	}
	var method string
	var files []file
	if o.Persist != "" {
		var err error
		if method, files, err = o.persist(); err != nil {
			return err
		}
		if o.Root != "" {
			return o.makePersistent(method, files, dry)
		}
	}
	steps := o.steps()
	for _, s := range steps {
		st, err := s.look()
		if err != nil {
			return err
		}
		if st.byHand != "" {
			return fmt.Errorf("%s: %s; nothing was changed; first: %s", st.what, st.why, st.byHand)
		}
	}
	changes, err := readState(o.State)
	if err != nil {
		return err
	}
	if err := mayWrite(o.State); err != nil && !dry {
		return fmt.Errorf("the previous values cannot be recorded: %w; nothing was changed; run this command as root, or name another file by --state", err)
	}
	for _, s := range steps {
		st, err := s.look()
		switch {
		case err != nil:
			return err
		case st.ok:
			fmt.Fprintf(o.Out, "%s[ok]  %s\n", comment(dry), st.what)
			continue
		case dry:
			fmt.Fprintf(o.Out, "# %s\n%s\n", st.what, s.command())
			continue
		}
		c, err := s.set()
		if err != nil {
			return err
		}
		fmt.Fprintf(o.Out, "[set] %s\n", &c)
		changes = append(changes, c)
		if err := writeState(o.State, changes); err != nil {
			return err
		}
	}
	if o.Persist != "" {
		if err := o.makePersistent(method, files, dry); err != nil {
			return err
		}
	}
	if dry {
		return nil
	}
	for _, s := range steps { // what was set must be so
		if st, err := s.look(); err != nil || !st.ok {
			return fmt.Errorf("%s, although it was set: another program on this host changes it (%v)", st.what, err)
		}
	}
	return nil
}

func comment(dry bool) string {
	if dry {
		return "# "
	}
	return ""
}

// Undo undoes the changes of Apply in reverse order: the VIPs before the ARP settings. Settings
// changed by others since then are left alone. If vips is not empty, Undo only removes these from
// lo.
func Undo(o Options, vips []netip.Addr) error {
	if o.State == "" {
		o.State = DefaultState()
	}
	changes, err := readState(o.State)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		fmt.Fprintf(o.Out, "nothing to undo: %s records no change\n", o.State)
		return nil
	}
	for i := len(changes) - 1; i >= 0; i-- {
		c := changes[i]
		if len(vips) > 0 && !(c.Kind == kindAddress && slices.ContainsFunc(vips, func(v netip.Addr) bool {
			return netip.PrefixFrom(v, v.BitLen()).String() == c.Set
		})) {
			continue
		}
		said, err := c.undo()
		if err != nil {
			return fmt.Errorf("undoing %s: %w", &c, err)
		}
		fmt.Fprintln(o.Out, said)
		changes = slices.Delete(changes, i, i+1)
		if err := writeState(o.State, changes); err != nil {
			return err
		}
	}
	return nil
}

// undo takes one change back, and says what it did.
func (c *change) undo() (string, error) {
	switch c.Kind {
	case kindSysctl:
		now, err := readSysctl(c.Key)
		if err != nil {
			return "[left] " + err.Error(), nil // the interface is gone, and the setting with it
		}
		if now != c.Set {
			return fmt.Sprintf("[left] %s is now %s, not the %s that was set", c.Key, now, c.Set), nil
		}
		return fmt.Sprintf("[set]  %s = %s (was %s)", c.Key, c.Was, c.Set), writeSysctl(c.Key, c.Was)
	case kindAddress:
		there, err := removeAddress(c.Set, c.Key)
		if err == nil && !there {
			return fmt.Sprintf("[left] %s is no longer on %s", c.Set, c.Key), nil
		}
		return fmt.Sprintf("[gone] %s from %s", c.Set, c.Key), err
	case kindRoute:
		return c.undoRoute()
	}
	return "", fmt.Errorf("the state file has a change of unknown kind %q", c.Kind)
}

func (c *change) undoRoute() (string, error) {
	family := (&route{gateway: netip.MustParseAddr("0.0.0.0")}).family()
	if a, err := netip.ParseAddr(c.Route.Gateway); err == nil {
		family = (&route{gateway: a}).family()
	}
	all, err := defaultRoutes(family)
	if err != nil {
		return "", err
	}
	ours := slices.ContainsFunc(all, func(g gatewayRoute) bool {
		return g.Gateway == c.Route.Gateway && g.Interface == c.Route.Interface && g.Metric == c.Route.Metric
	})
	if !ours {
		return "[left] the default route is not the one that was set any more", nil
	}
	if c.RouteWas != nil {
		return "[set]  default route " + c.RouteWas.String(), replaceRoute(c.RouteWas)
	}
	return "[gone] default route " + c.Route.String(), removeRoute(c.Route)
}
