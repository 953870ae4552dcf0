package api

import (
	"fmt"
	"net/netip"
	"strconv"
)

// A DifferenceKind says how one configuration differs from another in one place.
type DifferenceKind string

// The kinds. What is added is in the second configuration only, what is removed is in the first
// only.
const (
	Added   DifferenceKind = "added"
	Removed DifferenceKind = "removed"
	Changed DifferenceKind = "changed"
)

// A Difference is one place where two configurations differ: a service, a realserver of a service,
// or a key.
type Difference struct {
	Kind       DifferenceKind `json:"kind"`
	Service    string         `json:"service,omitempty"`   // name; empty for what is of no service
	Realserver netip.Addr     `json:"realserver,omitzero"` // of the service; missing for the service itself
	Key        string         `json:"key,omitempty"`       // of the configuration, such as weight or ipvs.timeouts.tcp, if it is Changed
	Old        string         `json:"old,omitempty"`       // the key's value in the first configuration, as one writes it
	New        string         `json:"new,omitempty"`       // and in the second
	Restart    bool           `json:"restart,omitempty"`   // a reload does not change it: it takes effect at the next start
}

// String is the difference on one line. Names with control characters are quoted.
func (d *Difference) String() string {
	place := ""
	if d.Service != "" {
		place = "service " + Printable(d.Service)
	}
	if d.Realserver.IsValid() {
		place += ": realserver " + d.Realserver.String()
	}
	if d.Kind != Changed {
		return place + " " + string(d.Kind)
	}
	if place != "" {
		place += ": "
	}
	text := fmt.Sprintf("%s%s %s -> %s", place, d.Key, value(d.Old), value(d.New))
	if d.Restart {
		text += " (takes effect at the next start)"
	}
	return text
}

func value(s string) string {
	if s == "" {
		return `""`
	}
	return Printable(s)
}

// Printable is s as a terminal can show it: quoted as in Go if it has characters that do not print.
func Printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// Drift is how the running configuration differs from the one that was read last.
type Drift struct {
	Total       int          `json:"total"`       // differences that there are
	Differences []Difference `json:"differences"` // the first 100 of them; Old is the file's value
}

// MaxDrift is how many differences a Drift names.
const MaxDrift = 100
