// Package keptfile is the file in which a director keeps what was changed by its control socket for
// the process that comes after it: a [Keeper] writes it, and Parse reads it. It is lines of JSON.
// The first is a Head, the second the plan that was served when it was written, or null for what
// the configuration says, and each other one the changes of one transaction since.
package keptfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"shunt/api"
	"shunt/forwarder"
)

// Format is raised when lines come to mean something else.
const Format = 1

// A Head is the first line: what the others are changes to.
type Head struct {
	Format  int    `json:"format"`
	Boot    string `json:"boot"`    // during which run of the machine: after it, the configuration counts
	Config  string `json:"config"`  // SHA-256 of the configuration that was changed
	Changes uint64 `json:"changes"` // that made of it what the second line has
}

// Parse reads the file as far as it is whole, and tells how far that is: not at all if that is not
// two lines.
func Parse(text []byte) (head Head, plan *forwarder.Plan, since [][]api.Change, whole int, err error) {
	for n := 0; len(text) > whole; n++ {
		line, _, ended := bytes.Cut(text[whole:], []byte("\n"))
		var changes []api.Change
		to := any(&changes)
		switch n {
		case 0:
			to = &head
		case 1:
			to = &plan
		}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		err = errors.New("it is cut off")
		if ended {
			err = dec.Decode(to)
		}
		if err == nil && n == 0 && head.Format != Format {
			err = fmt.Errorf("its format is %d, and this version knows %d", head.Format, Format)
		}
		if err != nil {
			if n < 2 {
				whole = 0
			}
			return head, plan, since, whole, fmt.Errorf("line %d: %w", n+1, err)
		}
		if n > 1 {
			since = append(since, changes)
		}
		whole += len(line) + 1
	}
	if bytes.Count(text[:whole], []byte("\n")) < 2 {
		return head, nil, nil, 0, errors.New("it ends too soon")
	}
	return head, plan, since, whole, nil
}
