package realserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The kinds of changes.
const (
	kindSysctl  = "sysctl"
	kindAddress = "address"
	kindRoute   = "route"
)

// change is one thing that apply did, and what was there before.
type change struct {
	Kind     string        `json:"kind"`
	Key      string        `json:"key"`           // name of the sysctl; interface of the address
	Was      string        `json:"was,omitempty"` // value of the sysctl
	Set      string        `json:"set,omitempty"` // value of the sysctl; the address
	Route    *gatewayRoute `json:"route,omitempty"`
	RouteWas *gatewayRoute `json:"route_was,omitempty"` // nil: there was none of that metric
}

func (c *change) String() string {
	switch c.Kind {
	case kindSysctl:
		return fmt.Sprintf("%s = %s (was %s)", c.Key, c.Set, c.Was)
	case kindAddress:
		return fmt.Sprintf("%s on %s", c.Set, c.Key)
	}
	s := "default route " + c.Route.String()
	if c.RouteWas != nil {
		s += " (was " + c.RouteWas.String() + ")"
	}
	return s
}

// readState returns the changes in the order in which they were made; none if there is no file.
func readState(path string) ([]change, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []change
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("%s: %w: the file does not record the previous settings; remove it if they are not needed", path, err)
	}
	return out, nil
}

// mayWrite tells whether writeState can write the file.
func mayWrite(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// writeState replaces the file as a whole, and removes it when there is nothing to note.
func writeState(path string, changes []change) error {
	if len(changes) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(changes, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
