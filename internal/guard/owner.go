package guard

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// An owner is a director as its tables name it. While it lives it holds an abstract socket
// (unix(7)), of which the kernel has one of a name in each network namespace, as it has of tables:
// so nobody takes the tables of a director that lives for those of one that was killed. Directors
// in several containers may share a network namespace and yet have paths of the same names.
type owner struct {
	ids []string // that the identity may have; the first that is free is taken
	id  string
	fd  int
}

// mostAlike is how many directors of one identity there may be in a network namespace.
const mostAlike = 8

// idsOf lists the names that an identity may have.
func idsOf(identity string) (ids []string) {
	for i := range mostAlike {
		if i > 0 {
			identity += "+"
		}
		ids = append(ids, fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(identity))))
	}
	return ids
}

// socketOf is the name of the socket that the owner of an id holds.
func socketOf(id string) string { return "@shunt_guard_" + id }

// claim takes the first free id of an identity.
func claim(identity string) (*owner, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("guard: reserve a name by a socket: %w", err)
	}
	o := &owner{ids: idsOf(identity), fd: fd}
	for _, id := range o.ids {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: socketOf(id)})
		if err == nil {
			o.id = id
			return o, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	_ = unix.Close(fd)
	return nil, fmt.Errorf("guard: no free table name: %w", err)
}

func (o *owner) release() error { return unix.Close(o.fd) }

// table is the owner's on an interface.
func (o *owner) table(name string) *nftables.Table { return tableOf("shunt_" + o.id + "_" + name) }

func tableOf(name string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: name}
}

// clean removes what this director, or one that has its identity, left when it was killed, but for
// what is replaced anyway.
func (o *owner) clean(interfaces []string) error {
	all, err := Find()
	if err != nil {
		return err
	}
	var stale []string
	for _, t := range all {
		mine := t.id == o.id && !slices.Contains(interfaces, t.Interface)
		if mine || t.id != o.id && !t.Alive && slices.Contains(o.ids, t.id) {
			stale = append(stale, t.Name)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	return Remove(stale)
}

// A Table is an nftables table of a director.
type Table struct {
	Name      string
	Interface string
	Alive     bool // its director runs
	id        string
}

var tableName = regexp.MustCompile(`^shunt_(?:([0-9a-f]{8})_)?(.+)$`)

// Find lists the tables of all directors, in the network namespace of the calling thread.
func Find() ([]Table, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, explain(err)
	}
	sockets, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return nil, fmt.Errorf("guard: list the running directors: %w", err)
	}
	alive := map[string]bool{}
	for line := range strings.Lines(string(sockets)) {
		if fields := strings.Fields(line); len(fields) == 8 {
			alive[fields[7]] = true
		}
	}
	var out []Table
	for _, t := range tables {
		if m := tableName.FindStringSubmatch(t.Name); m != nil {
			out = append(out, Table{t.Name, m[2], alive[socketOf(m[1])], m[1]})
		}
	}
	return out, nil
}
