package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// Diff lists how configuration b differs from a in what they mean: that a default is written does
// not count, nor does the order of services and realservers.
func Diff(a, b *Config) []api.Difference {
	var out []api.Difference
	for _, v := range valuesOf(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "") {
		out = append(out, api.Difference{Kind: api.Changed, Key: v.key, Old: v.old, New: v.new, Restart: restarts(v.key)})
	}
	out = append(out, diffLegs(a.Legs, b.Legs)...)
	before, after := byKey(a), byKey(b)
	for i := range a.Services {
		if s := &a.Services[i]; after[s.Key()] == nil {
			out = append(out, api.Difference{Kind: api.Removed, Service: s.Name})
		}
	}
	for i := range b.Services {
		s := &b.Services[i]
		if old := before[s.Key()]; old != nil {
			out = append(out, old.diff(s)...)
			continue
		}
		out = append(out, api.Difference{Kind: api.Added, Service: s.Name})
		for _, r := range s.Realservers {
			out = append(out, api.Difference{Kind: api.Added, Service: s.Name, Realserver: r.Address})
		}
	}
	return out
}

// diffLegs compares legs: a reload takes other networks, but no other legs.
func diffLegs(a, b []Leg) (out []api.Difference) {
	text := func(legs []Leg, networks bool) string {
		parts := make([]string, len(legs))
		for i := range legs {
			parts[i] = legs[i].text(networks)
		}
		return strings.Join(parts, ", ")
	}
	for _, networks := range []bool{false, true} {
		if old, now := text(a, networks), text(b, networks); old != now {
			key := map[bool]string{false: "legs", true: "legs.networks"}[networks]
			return []api.Difference{{Kind: api.Changed, Key: key, Old: old, New: now, Restart: !networks}}
		}
	}
	return nil
}

func byKey(c *Config) map[forwarder.ServiceKey]*Service {
	out := make(map[forwarder.ServiceKey]*Service, len(c.Services))
	for i := range c.Services {
		out[c.Services[i].Key()] = &c.Services[i]
	}
	return out
}

// diff compares two services of one key.
func (s *Service) diff(now *Service) []api.Difference {
	if s.same(now) {
		return nil // as nearly all are
	}
	out := DiffService(&s.Service, &now.Service)
	before := make(map[netip.Addr]*Realserver, len(s.Realservers))
	for i := range s.Realservers {
		before[s.Realservers[i].Address] = &s.Realservers[i]
	}
	for i := range now.Realservers {
		r := &now.Realservers[i]
		old := before[r.Address]
		if old == nil {
			out = append(out, api.Difference{Kind: api.Added, Service: s.Name, Realserver: r.Address})
			continue
		}
		delete(before, r.Address)
		for _, v := range valuesOf(reflect.ValueOf(old).Elem(), reflect.ValueOf(r).Elem(), "") {
			out = append(out, api.Difference{Kind: api.Changed, Service: s.Name, Realserver: r.Address, Key: v.key, Old: v.old, New: v.new})
		}
	}
	for i := range s.Realservers {
		if r := &s.Realservers[i]; before[r.Address] != nil {
			out = append(out, api.Difference{Kind: api.Removed, Service: s.Name, Realserver: r.Address})
		}
	}
	return out
}

// DiffService lists how service b differs from a, realservers aside.
func DiffService(a, b *forwarder.Service) (out []api.Difference) {
	for _, v := range valuesOf(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "") {
		out = append(out, api.Difference{Kind: api.Changed, Service: a.Name, Key: v.key, Old: v.old, New: v.new})
	}
	return out
}

// same is a quick look whether two services are the same, realservers in their order too.
func (s *Service) same(o *Service) bool {
	a, b := s.Service, o.Service
	a.Matches, b.Matches = nil, nil
	return a.Name == b.Name && a.Scheduler == b.Scheduler && a.Options == b.Options && a.Persistence == b.Persistence && a.MaskBits == b.MaskBits &&
		a.SlowStart == b.SlowStart && a.OnePacket == b.OnePacket && slices.Equal(s.Matches, o.Matches) &&
		slices.EqualFunc(s.Realservers, o.Realservers, func(x, y Realserver) bool {
			x.path, y.path = "", ""
			return x == y
		})
}

// differing is a key with two values.
type differing struct{ key, old, new string }

// notCompared are the fields of the types here that are no keys, or are compared by themselves.
var notCompared = map[string]bool{"path": true, "digest": true, "services": true, "legs": true, "v6": true, "address": true, "shared": true}

// keysOf are the keys of fields that are called otherwise in the file.
var keysOf = map[string]string{
	"settings.source": "source_mac", "settings.gone": "when_gone", "settings.refuse_when_full": "table_full", "settings.stray_icmp": "stray_icmp",
	"settings.silent": "answer", "settings.tcp_timeout": "ipvs.timeouts.tcp", "settings.tcp_fin_timeout": "ipvs.timeouts.tcpfin",
	"settings.udp_timeout": "ipvs.timeouts.udp", "mask_bits": "persistence_mask", "options.flags": "flags", "options.table_size": "table_size",
	"options.expiration": "ipvs.lblc_expiration", "arp.learn": "arp.learn_gratuitous", "ring.cp_us": "ring.cpus",
}

// valuesOf compares two structs of one type, field by field, down to single values.
func valuesOf(a, b reflect.Value, path string) (out []differing) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		key := snake(f.Name)
		if path != "" {
			key = path + "." + key
		}
		if !f.IsExported() || notCompared[key] || reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			out = append(out, valuesOf(a.Field(i), b.Field(i), key)...)
			continue
		}
		name := key
		if known, ok := keysOf[key]; ok {
			name = known
		} else if rest, ok := strings.CutPrefix(key, "settings."); ok {
			name = "ipvs." + rest
		}
		out = append(out, differing{name, text(key, a.Field(i)), text(key, b.Field(i))})
	}
	return out
}

// snake writes the name of a field as a key: SlotSize is slot_size.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		begins := i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if begins {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// text writes a value about as the file has it.
func text(key string, v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		switch {
		case x == 0 && (strings.HasSuffix(key, "_timeout") || key == "ring.spin" || key == "ring.gather"):
			return "default"
		case x < 0: // see replacement
			return "0s"
		}
		return x.String()
	case fs.FileMode:
		return fmt.Sprintf("%04o", uint32(x))
	case forwarder.SourcePolicy:
		return [...]string{"auto", "preserve", "own"}[x]
	case forwarder.GonePolicy:
		return [...]string{"drop", "reschedule", "reset"}[x]
	case frame.MAC:
		if x.IsZero() {
			return ""
		}
		return x.String()
	case []forwarder.Match:
		parts := make([]string, len(x))
		for i, m := range x {
			parts[i] = fmt.Sprintf("%s %s %d-%d", m.Proto, m.Addr, m.First, m.Last)
		}
		return strings.Join(parts, ", ")
	case bool:
		switch key {
		case "settings.silent":
			return fmt.Sprint(!x)
		case "settings.refuse_when_full":
			return map[bool]string{false: "evict", true: "refuse"}[x]
		case "settings.stray_icmp":
			return map[bool]string{false: "drop", true: "forward"}[x]
		}
	}
	return fmt.Sprint(v.Interface())
}

func (l *Leg) text(networks bool) string {
	s := l.Name
	if l.Interface != l.Name {
		s += " on " + l.Interface
	}
	if l.VLAN != 0 {
		s += fmt.Sprintf(" vlan %d", l.VLAN)
		if l.TPID != frame.EtherTypeVLAN {
			s += " of 802.1ad"
		}
	}
	if l.Public {
		s += " public"
	}
	for _, n := range l.Networks {
		if !networks {
			break
		}
		s += " " + n.String()
	}
	return s
}

// reloaded are the keys, or the blocks of keys, that a reload changes; all others beside services
// need a start.
var reloaded = []string{"ipvs.", "source_mac", "when_gone", "table_full", "stray_icmp", "answer", "log.level"}

// restarts reports whether a change of a key takes effect at the next start only.
func restarts(key string) bool {
	return !slices.ContainsFunc(reloaded, func(k string) bool { return key == k || strings.HasSuffix(k, ".") && strings.HasPrefix(key, k) })
}
