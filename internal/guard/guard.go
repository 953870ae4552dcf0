// Package guard keeps the host's kernel from the frames that the director takes: nftables rules at the ingress hook of each
// leg drop what is for the VIPs. The hook lies behind the tap from which the rings read (ETH_P_ALL) and before the
// kernel's own stack, which would otherwise route such frames, or answer them if the VIP is on the host after all.
//
// Each interface has a table of its own, named shunt_ and the interface. `nft list table netdev shunt_eth0` shows it.
package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// ErrUnsupported is wrapped when the kernel has no nftables, or no ingress hooks.
var ErrUnsupported = errors.New("this kernel has no nftables for netdev ingress")

// A Guard is the rules of some interfaces. It is used by one goroutine at a time.
type Guard struct {
	interfaces []string
	known      bool           // what is in the tables is what they were told
	conn       *nftables.Conn // for changes; nil until there is one
}

// Install puts rules on the interfaces that drop what is for vips, in the network namespace of the calling thread. Rules
// that a director left there when it was killed are replaced. An error that wraps ErrUnsupported means that there is no
// guard and will be none on this host; one that wraps unix.EPERM that CAP_NET_ADMIN is missing.
func Install(interfaces []string, vips []netip.Addr) (*Guard, error) {
	g := &Guard{interfaces: interfaces}
	if err := g.SetVIPs(vips); err != nil {
		return nil, err
	}
	return g, nil
}

// SetInterfaces has the rules on other interfaces, or on those that took the place of others and have their names.
func (g *Guard) SetInterfaces(interfaces []string, vips []netip.Addr) error {
	var gone []string
	for _, name := range g.interfaces {
		if !slices.Contains(interfaces, name) {
			gone = append(gone, name)
		}
	}
	g.interfaces = interfaces
	err := g.SetVIPs(vips)
	if len(gone) > 0 {
		err = errors.Join(err, Remove(gone))
	}
	return err
}

// SetVIPs replaces the addresses, from one frame to the next. Interfaces that do not exist at present are passed over.
func (g *Guard) SetVIPs(vips []netip.Addr) error {
	var v4, v6 []nftables.SetElement
	for _, v := range vips {
		if v.Is4() {
			v4 = append(v4, nftables.SetElement{Key: v.AsSlice()})
		} else {
			v6 = append(v6, nftables.SetElement{Key: v.AsSlice()})
		}
	}
	c, err := nftables.New(nftables.WithSockOptions(roomy))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	g.known = false
	for _, name := range g.interfaces {
		if _, err := net.InterfaceByName(name); err != nil {
			continue // it was deleted, and comes again or not: the others are to be guarded meanwhile
		}
		t := anew(c, name)
		chain := c.AddChain(&nftables.Chain{
			Name: "ingress", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
			Priority: nftables.ChainPriorityFirst, Device: name,
		})
		if err := addRule(c, t, chain, "vips4", nftables.TypeIPAddr, frame.EtherTypeIPv4, 16, 4, v4); err != nil {
			return err
		}
		if err := addRule(c, t, chain, "vips6", nftables.TypeIP6Addr, frame.EtherTypeIPv6, 24, 16, v6); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return explain(err)
	}
	g.known = true
	return nil
}

// roomy lets a socket send ten thousands of addresses in one transaction.
func roomy(c *netlink.Conn) error {
	_ = c.SetWriteBuffer(8 << 20) // if it is not allowed to, fewer will do
	return nil
}

// ChangeVIPs is SetVIPs where it is known what vips differ in from before: it adds and removes just that.
func (g *Guard) ChangeVIPs(vips, come, gone []netip.Addr) error {
	if !g.known || g.change(come, gone) != nil {
		return g.SetVIPs(vips) // somebody has meddled with the tables, or an interface is gone
	}
	return nil
}

// change adds and removes addresses in one transaction. Its socket stays open: the kernel lets the close of one wait until what
// was removed is really gone, which takes longer than all the rest.
func (g *Guard) change(come, gone []netip.Addr) (err error) {
	if g.conn == nil {
		if g.conn, err = nftables.New(nftables.WithSockOptions(roomy), nftables.AsLasting()); err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
	}
	var add, remove [2][]nftables.SetElement // of IPv4 and IPv6
	for _, v := range come {
		at(&add, v)
	}
	for _, v := range gone {
		at(&remove, v)
	}
	for _, name := range g.interfaces {
		t := &nftables.Table{Family: nftables.TableFamilyNetdev, Name: "shunt_" + name}
		for family, set := range []*nftables.Set{{Table: t, Name: "vips4", KeyType: nftables.TypeIPAddr}, {Table: t, Name: "vips6", KeyType: nftables.TypeIP6Addr}} {
			err = errors.Join(err, inPortions(add[family], set, g.conn.SetAddElements), inPortions(remove[family], set, g.conn.SetDeleteElements))
		}
	}
	if err = errors.Join(err, g.conn.Flush()); err != nil {
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

func at(lists *[2][]nftables.SetElement, v netip.Addr) {
	family := 0
	if v.Is6() {
		family = 1
	}
	lists[family] = append(lists[family], nftables.SetElement{Key: v.AsSlice()})
}

func inPortions(elements []nftables.SetElement, set *nftables.Set, fn func(*nftables.Set, []nftables.SetElement) error) error {
	for part := range slices.Chunk(elements, portion) {
		if err := fn(set, part); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
	}
	return nil
}

// anew replaces the table of an interface by an empty one: adding it first makes the removal succeed in any case.
func anew(c *nftables.Conn, name string) *nftables.Table {
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "shunt_" + name})
	c.DelTable(t)
	return c.AddTable(t)
}

// portion is how many addresses go into one message, whose attributes have 16 bits for their length.
const portion = 1000

// addRule drops packets of one protocol whose destination, size bytes at offset of the IP header, is in a set.
func addRule(c *nftables.Conn, t *nftables.Table, chain *nftables.Chain, name string, typ nftables.SetDatatype,
	proto uint16, offset, size uint32, elements []nftables.SetElement) error {
	set := &nftables.Set{Table: t, Name: name, KeyType: typ}
	if err := c.AddSet(set, nil); err != nil {
		return fmt.Errorf("nftables: set %s: %w", name, err)
	}
	if err := inPortions(elements, set, c.SetAddElements); err != nil {
		return err
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(proto)},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Lookup{SourceRegister: 1, SetName: name, SetID: set.ID},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return nil
}

// Close removes the rules.
func (g *Guard) Close() error { return errors.Join(g.disconnect(), Remove(g.interfaces)) }

// Remove removes the rules of interfaces, whoever left them.
func Remove(interfaces []string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, name := range interfaces {
		t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "shunt_" + name})
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
