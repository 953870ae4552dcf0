package realserver

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// Script writes a shell script that does the same as Apply on hosts without shunt. The script needs
// ip(8) and sysctl(8). Script does not inspect this host, so the interface is required. With
// Persist the script also makes the settings permanent, with the method available where it runs.
func Script(o Options) error {
	if err := o.assumeInterfaces(); err != nil {
		return err
	}
	text := o.script(false)
	if o.Persist != "" {
		more, err := o.persistScript()
		if err != nil {
			return err
		}
		text += more
	}
	_, err := io.WriteString(o.Out, text)
	return err
}

// script is the text for sh; atBoot is one that is kept for each boot.
func (o *Options) script(atBoot bool) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	if atBoot {
		b.WriteString(mark)
	}
	fmt.Fprintf(&b, "# Makes this host a realserver of direct routing for %s. It can be run repeatedly.\n", join(o.VIPs))
	if !atBoot && o.Persist == "" {
		b.WriteString("# It lasts until the next boot.\n")
	}
	b.WriteString("set -e\n")
	done := map[string]bool{}
	for _, s := range o.steps() {
		if done[s.command()] {
			continue // of another interface
		}
		done[s.command()] = true
		switch x := s.(type) {
		case *sysctl:
			fmt.Fprintf(&b, "\n# otherwise %s\n", x.why)
		case *address:
			fmt.Fprintf(&b, "\n# the VIP\n")
		case *route:
			fmt.Fprintf(&b, "\n# replies leave by the gateway, not by the director\n")
		}
		fmt.Fprintln(&b, s.command())
	}
	return b.String()
}

// persistScript is the part of a script that makes it last. Which files of systemd-networkd matter,
// only a look at the host tells.
func (o *Options) persistScript() (string, error) {
	commands := func(method string) (out string, err error) {
		files, err := o.files(method)
		for _, f := range files {
			out += f.commands(f.path)
		}
		return out, err
	}
	switch o.Persist {
	case persistNetworkd:
		return "", errors.New("--script --persist=networkd: a script cannot determine the files of systemd-networkd; write --persist=systemd")
	case persistAuto:
		systemd, err1 := commands(persistSystemd)
		ifupdown, err2 := commands(persistIfupdown)
		return "\n# for each boot\nif [ -d /run/systemd/system ]; then\n" + systemd + "systemctl daemon-reload\nelif [ -d /etc/network/if-up.d ]; then\n" + ifupdown +
			"else\necho 'neither systemd nor ifupdown is here: this lasts until the next boot' >&2\nexit 1\nfi\n", errors.Join(err1, err2)
	}
	one, err := commands(o.Persist)
	return "\n# for each boot\n" + one, err
}

// assumeInterfaces gives those that were named every role. The kernel finds out by which of them a
// gateway is reached.
func (o *Options) assumeInterfaces() error {
	if len(o.Interfaces) == 0 {
		return errors.New("--script does not inspect this host: name the realserver's interface by --interface")
	}
	for _, name := range o.Interfaces {
		if err := plainName(name); err != nil {
			return err
		}
	}
	o.arp, o.towards = o.Interfaces, map[netip.Addr]string{}
	for _, g := range o.Gateways {
		if g.IsLinkLocalUnicast() || len(o.Interfaces) == 1 {
			o.towards[g] = o.Interfaces[0]
		}
	}
	return nil
}

// plainName refuses names that sh would not take as they are.
func plainName(name string) error {
	if name == "" || strings.ContainsAny(name, " '\"\\$`;&|<>()/*?[]{}~#!\n") {
		return fmt.Errorf("--interface %q is not a valid interface name for a script", name)
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
