package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// What was probably meant.

// otherWords are what other programs call a key.
var otherWords = map[string]string{
	"vip": "address", "rip": "address", "ip": "address", "host": "address", "real_server": "realservers", "servers": "realservers", "backends": "realservers",
	"reals": "realservers", "virtual_server": "services", "lb_algo": "scheduler", "lvs_sched": "scheduler", "persistence_timeout": "persistence",
	"netmask": "persistence_mask", "fwmark": "mark", "uthreshold": "upper", "lthreshold": "lower", "dev": "interface", "nic": "interface",
	"device": "interface", "proto": "protocol", "threads": "workers", "includes": "include",
}

// keyHint says what an unknown key of a type may have been meant to be: meant is the key of this
// type, or "".
func keyHint(key string, in reflect.Type) (hint, meant string) {
	if key == "port" && in == realserverType {
		return "; a realserver has the service's port, as direct routing changes none", ""
	}
	if len(key) > 40 {
		return "", ""
	}
	names := namesOf(in)
	if other := otherWords[strings.ToLower(key)]; slices.Contains(names, other) {
		return "; did you mean " + other + "?", other
	}
	if near := nearest(key, names); near != "" {
		return "; did you mean " + near + "?", near
	}
	if block := blockOf(key, fileType, ""); block != "" {
		return "; it belongs under " + block, ""
	}
	return "; docs/configuration.md has all of them", ""
}

// nearest returns the name with the fewest edits between it and key, or "" if it takes too many.
func nearest(key string, names []string) string {
	best, least := "", max(min(len(key)/3, 2), 1)+1
	for _, n := range names {
		if d := edits(strings.ToLower(key), n); d < least {
			best, least = n, d
		}
	}
	return best
}

// edits is how many characters have to be put in, left out, replaced or exchanged with the next one
// to make b of a.
func edits(a, b string) int {
	before, row := []int(nil), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(next[j-1]+1, row[j]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}

// blockOf returns the block in which a key is known, "the top level" included, or "".
func blockOf(key string, t reflect.Type, path string) string {
	f := fieldsOf(t)
	if _, ok := f.index[key]; ok {
		if path == "" {
			return "the top level"
		}
		return path
	}
	for i, name := range f.names {
		ft := t.Field(i).Type
		for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct && ft != scalarType {
			if found := blockOf(key, ft, strings.TrimPrefix(path+"."+name, ".")); found != "" {
				return found
			}
		}
	}
	return ""
}

// listHint shows how a list is written.
func listHint(key string) string {
	switch key {
	case "legs":
		return "begin each leg with a dash, as in\nlegs:\n  - interface: eth0"
	case "services":
		return "begin each service with a dash, as in\nservices:\n  - address: 192.0.2.10"
	case "realservers":
		return "begin each realserver with a dash, as in\nrealservers:\n  - address: 10.0.0.11"
	case "matches":
		return "begin each match with a dash, as in\nmatches:\n  - {address: 192.0.2.10, port: 80}"
	}
	return "write " + key + ": [...]"
}

// itemHint says how the item of a list is written for which there is just a word.
func itemHint(t reflect.Type, n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	word := shorten(n.Value, maxQuoted)
	switch t {
	case realserverType, reflect.TypeFor[matchFile](), serviceType:
		if host, port, ok := splitPort(word); ok && t != realserverType {
			return sprintf(": write - address: %s and port: %s", quoteYAML(host), port)
		} else if ok {
			return sprintf(": write - address: %s; a realserver has the service's port", quoteYAML(host))
		}
		if _, err := netip.ParseAddr(word); err == nil {
			return sprintf(": write - address: %s", quoteYAML(word))
		}
		return ": write - address: and the IP address"
	case reflect.TypeFor[legFile]():
		return sprintf(": write - interface: %s", word)
	}
	return ""
}

// addressHint says what may have been meant by what is no address.
func addressHint(s string, realserver bool) string {
	if host, port, ok := splitPort(s); ok && realserver {
		return sprintf(": write address: %s; a realserver has the service's port", quoteYAML(host))
	} else if ok {
		return sprintf(": write address: %s and port: %s", quoteYAML(host), port)
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return sprintf(": write it without the length of a prefix, %s", p.Addr())
	}
	return "; names are not resolved"
}

// splitPort takes an address and a port apart.
func splitPort(s string) (host, port string, ok bool) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return "", "", false
	}
	_, port, _ = cutLast(s, ":")
	return a.Addr().String(), port, true
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// quoteYAML writes an address as YAML takes it for text.
func quoteYAML(s string) string {
	if strings.Contains(s, ":") {
		return `"` + s + `"`
	}
	return s
}
