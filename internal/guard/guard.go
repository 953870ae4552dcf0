// Package guard hides the director's frames from the host's kernel: nftables rules at the ingress
// hook of each leg drop frames to the VIPs. The hook is after the tap from which the rings read
// (ETH_P_ALL), and before the kernel's own stack. Without the guard the kernel would route these
// frames, or answer them if the host has the VIP.
//
// Each director has its own table on each interface, with a name like shunt_1a2b3c4d_eth0, so
// several directors can share an interface. `nft list tables netdev` lists them. Watch restores
// tables that other programs remove.
package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"shunt/api"
	"shunt/forwarder/frame"
)

// ErrUnsupported is wrapped when the kernel has no nftables, or no ingress hooks.
var ErrUnsupported = errors.New("this kernel has no nftables for netdev ingress")

// A Guard is the set of rules of one director on its interfaces. All methods are safe for
// concurrent use.
type Guard struct {
	owner *owner

	mu         sync.Mutex // guards what follows
	interfaces []string
	on         map[string]int // those with a table, and which interface had the name then
	vips       []netip.Addr
	own        map[netip.Addr]bool // addresses of the host
	known      bool                // what is in the tables is what they were told
	conn       *nftables.Conn      // for changes; nil until there is one
	port       atomic.Uint32       // of conn: see portOf
	state      api.Guard
	keeper     keeper
	events     *netlink.Conn // nil if the kernel does not tell of changes
}

// Install adds rules to the interfaces that drop frames to vips, in the network namespace of the
// calling thread. identity identifies the director across restarts: rules left behind by a killed
// director with the same identity are replaced, those of other directors are left alone. own are
// the addresses of the host: see SetOwn. An error that wraps ErrUnsupported means that the host
// does not support a guard; one that wraps unix.EPERM means that CAP_NET_ADMIN is missing.
func Install(identity string, interfaces []string, vips, own []netip.Addr) (*Guard, error) {
	o, err := claim(identity)
	if err != nil {
		return nil, err
	}
	g := &Guard{owner: o, interfaces: interfaces, vips: vips, own: setOf(own)}
	if g.events, err = subscribe(); err != nil {
		g.keeper.blind = err
	}
	err = o.clean(interfaces)
	if err == nil {
		err = g.SetVIPs(vips)
	}
	if err != nil {
		return nil, errors.Join(err, g.release())
	}
	return g, nil
}

func setOf(addrs []netip.Addr) map[netip.Addr]bool {
	set := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		set[a] = true
	}
	return set
}

// SetInterfaces moves the rules to other interfaces, or to new interfaces with the same names.
func (g *Guard) SetInterfaces(interfaces []string, vips []netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var gone []string
	for _, name := range g.interfaces {
		if !slices.Contains(interfaces, name) {
			gone = append(gone, g.owner.table(name).Name)
		}
	}
	g.interfaces, g.vips = interfaces, vips
	err := g.set()
	if len(gone) > 0 {
		err = errors.Join(err, Remove(gone))
	}
	return err
}

// SetOwn sets the addresses of the host. Frames to them are never dropped, even if they are VIPs:
// otherwise the host would be cut off, including ssh sessions. The host's kernel then answers for
// these VIPs: State lists them as Exposed.
func (g *Guard) SetOwn(own []netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.exposed()
	g.own = setOf(own)
	if slices.Equal(before, g.exposed()) {
		return nil
	}
	return g.set()
}

// exposed lists the VIPs that the host has. g.mu is held.
func (g *Guard) exposed() (out []netip.Addr) {
	for _, v := range g.vips {
		if g.own[v] {
			out = append(out, v)
		}
	}
	return out
}

// SetVIPs replaces the addresses atomically. Interfaces that do not exist are skipped.
func (g *Guard) SetVIPs(vips []netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.vips = vips
	return g.set()
}

// set writes all tables anew. g.mu is held.
func (g *Guard) set() error {
	var elements [2][]nftables.SetElement // of IPv4 and IPv6
	for _, v := range g.vips {
		g.at(&elements, v)
	}
	c, err := g.connect()
	if err != nil {
		return err
	}
	g.known, g.on = false, map[string]int{}
	for _, name := range g.interfaces {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			continue // it was deleted, and comes again or not: the others are to be guarded meanwhile
		}
		t := anew(c, g.owner.table(name))
		chain := c.AddChain(&nftables.Chain{
			Name: chainName, Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
			Priority: nftables.ChainPriorityFirst, Device: name,
		})
		for i := range families {
			if err := families[i].add(c, chain, elements[i]); err != nil {
				return errors.Join(err, g.disconnect())
			}
		}
		g.on[name] = ifi.Index
	}
	if err := c.Flush(); err != nil {
		return errors.Join(explain(err), g.disconnect())
	}
	g.known = true
	g.state.Exposed = g.exposed()
	return nil
}

// connect opens the socket for changes. It stays open: the kernel lets the close of one wait until
// what was removed is really gone, which takes longer than all the rest.
func (g *Guard) connect() (_ *nftables.Conn, err error) {
	if g.conn == nil {
		if g.conn, err = nftables.New(nftables.WithSockOptions(roomy, g.notePort), nftables.AsLasting()); err != nil {
			return nil, fmt.Errorf("nftables: %w", err)
		}
	}
	return g.conn, nil
}

// roomy lets a socket send ten thousands of addresses in one transaction.
func roomy(c *netlink.Conn) error {
	_ = c.SetWriteBuffer(8 << 20) // if it is not allowed to, fewer will do
	return nil
}

// ChangeVIPs is SetVIPs for a known difference: it only adds come and removes gone.
func (g *Guard) ChangeVIPs(vips, come, gone []netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.vips = vips
	if !g.known || g.change(come, gone) != nil {
		return g.set() // somebody has meddled with the tables, or an interface is gone
	}
	g.state.Exposed = g.exposed()
	return nil
}

// change adds and removes addresses in one transaction.
func (g *Guard) change(come, gone []netip.Addr) error {
	c, err := g.connect()
	if err != nil {
		return err
	}
	var add, remove [2][]nftables.SetElement // of IPv4 and IPv6
	for _, v := range come {
		g.at(&add, v)
	}
	for _, v := range gone {
		g.at(&remove, v)
	}
	for _, name := range g.interfaces {
		for i := range families {
			set := families[i].set(g.owner.table(name))
			err = errors.Join(err, inPortions(add[i], set, c.SetAddElements), inPortions(remove[i], set, c.SetDeleteElements))
		}
	}
	if err = errors.Join(err, c.Flush()); err != nil {
		err = errors.Join(err, g.disconnect())
	}
	return err
}

func (g *Guard) disconnect() error {
	if g.conn == nil {
		return nil
	}
	c := g.conn
	g.conn = nil
	return c.CloseLasting()
}

// at adds an address to the elements of its family, unless the host has it.
func (g *Guard) at(lists *[2][]nftables.SetElement, v netip.Addr) {
	family := 0
	if v.Is6() {
		family = 1
	}
	if !g.own[v] {
		lists[family] = append(lists[family], nftables.SetElement{Key: v.AsSlice()})
	}
}

func inPortions(elements []nftables.SetElement, set *nftables.Set, fn func(*nftables.Set, []nftables.SetElement) error) error {
	for part := range slices.Chunk(elements, portion) {
		if err := fn(set, part); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
	}
	return nil
}

// anew replaces a table by an empty one: adding it first makes the removal succeed in any case.
func anew(c *nftables.Conn, t *nftables.Table) *nftables.Table {
	c.AddTable(t)
	c.DelTable(t)
	return c.AddTable(t)
}

// portion is how many addresses go into one message, whose attributes have 16 bits for their
// length.
const portion = 1000

// chainName is the name of the one chain of a table.
const chainName = "ingress"

// A family is the rule for one version of IP: it drops packets of its protocol whose destination,
// size bytes at offset of the IP header, is in a set.
type family struct {
	name         string // of the set
	typ          nftables.SetDatatype
	proto        uint16
	offset, size uint32
}

var families = [2]family{
	{"vips4", nftables.TypeIPAddr, frame.EtherTypeIPv4, 16, 4},
	{"vips6", nftables.TypeIP6Addr, frame.EtherTypeIPv6, 24, 16},
}

func (f *family) set(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: f.name, KeyType: f.typ}
}

// rule is the rule's expressions.
func (f *family) rule(setID uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(f.proto)},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.offset, Len: f.size},
		&expr.Lookup{SourceRegister: 1, SetName: f.name, SetID: setID},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

func (f *family) add(c *nftables.Conn, chain *nftables.Chain, elements []nftables.SetElement) error {
	set := f.set(chain.Table)
	if err := c.AddSet(set, nil); err != nil {
		return fmt.Errorf("nftables: set %s: %w", f.name, err)
	}
	if err := inPortions(elements, set, c.SetAddElements); err != nil {
		return err
	}
	c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: f.rule(set.ID)})
	return nil
}

// Close removes the rules, and ends Watch.
func (g *Guard) Close() error {
	g.mu.Lock()
	var tables []string
	for _, name := range g.interfaces {
		tables = append(tables, g.owner.table(name).Name)
	}
	g.interfaces = nil
	g.mu.Unlock()
	return errors.Join(g.release(), Remove(tables), g.owner.release())
}

// release closes the sockets for changes and notifications.
func (g *Guard) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.disconnect()
	if g.events != nil {
		err = errors.Join(err, g.events.Close())
	}
	return err
}

// Remove removes tables of any director.
func Remove(tables []string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, name := range tables {
		t := c.AddTable(tableOf(name))
		c.DelTable(t)
	}
	return explain(c.Flush())
}

func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("nftables: %w: the capability CAP_NET_ADMIN is missing: run as root, or `setcap cap_net_raw,cap_net_admin+ep` the program", err)
	}
	return fmt.Errorf("nftables: %w", err)
}
