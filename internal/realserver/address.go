package realserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const loopback = "lo"

// address is a VIP on lo.
type address struct{ vip netip.Addr }

func (a *address) prefix() netip.Prefix { return netip.PrefixFrom(a.vip, a.vip.BitLen()) }

func (a *address) look() (state, error) {
	st := state{
		what: fmt.Sprintf("the VIP %s is not on %s", a.vip, loopback), want: fmt.Sprintf("%s on %s", a.prefix(), loopback),
		why: "the host drops or forwards the director's frames",
	}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return state{}, err
	}
	for _, l := range links {
		attrs := l.Attrs()
		addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
		if err != nil {
			return state{}, err
		}
		for _, x := range addrs {
			ip, _ := netip.AddrFromSlice(x.IP)
			if ip.Unmap() != a.vip {
				continue
			}
			bits, _ := x.Mask.Size()
			switch {
			// A dummy or another interface without ARP is as good as lo: nobody asks there.
			case attrs.Name != loopback && l.Type() != "dummy" && attrs.RawFlags&unix.IFF_NOARP == 0:
				return state{what: fmt.Sprintf("the VIP %s is on %s", a.vip, attrs.Name), want: st.want,
					why:    "the host answers ARP for it there, regardless of arp_ignore",
					byHand: fmt.Sprintf("ip addr del %s/%d dev %s", a.vip, bits, attrs.Name)}, nil
			case bits != a.vip.BitLen() && a.vip.Is4():
				return state{what: fmt.Sprintf("the VIP is on %s as %s/%d", attrs.Name, a.vip, bits), want: st.want,
					why:    fmt.Sprintf("this host treats every address of %s as its own", netip.PrefixFrom(a.vip, bits).Masked()),
					byHand: fmt.Sprintf("ip addr del %s/%d dev %s", a.vip, bits, attrs.Name)}, nil
			case attrs.Name != loopback && attrs.RawFlags&unix.IFF_UP == 0:
				return state{what: fmt.Sprintf("the VIP %s is on %s, which is down", a.vip, attrs.Name), want: st.want, why: st.why,
					byHand: "ip link set " + attrs.Name + " up"}, nil
			case x.Flags&unix.IFA_F_DADFAILED != 0:
				return state{what: fmt.Sprintf("the VIP %s is on %s, but duplicate address detection failed", a.vip, attrs.Name), want: st.want + " with nodad",
					why: "the kernel does not use it", byHand: fmt.Sprintf("ip addr del %s/%d dev %s", a.vip, bits, attrs.Name)}, nil
			}
			st = state{ok: true, what: fmt.Sprintf("the VIP %s is on %s", a.vip, attrs.Name)}
		}
	}
	return st, nil
}

func (a *address) set() (change, error) {
	c := change{Kind: kindAddress, Key: loopback, Set: a.prefix().String()}
	lo, err := netlink.LinkByName(loopback)
	if err != nil {
		return c, err
	}
	// nodad: who has the address is not asked; all realservers and the director have it (RFC 4862,
	// 5.4).
	flags := 0
	if a.vip.Is6() {
		flags = unix.IFA_F_NODAD
	}
	err = netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(a.prefix()), Flags: flags})
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: root is needed, or CAP_NET_ADMIN over this network namespace", err)
	}
	return c, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (a *address) command() string {
	if a.vip.Is6() {
		return fmt.Sprintf("ip -6 addr replace %s dev %s nodad", a.prefix(), loopback)
	}
	return fmt.Sprintf("ip addr replace %s dev %s", a.prefix(), loopback)
}

// removeAddress takes a VIP away; it is no error if it is gone already.
func removeAddress(prefix, iface string) (bool, error) {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return false, err
	}
	l, err := netlink.LinkByName(iface)
	if err != nil {
		return false, err
	}
	err = netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)})
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return false, nil
	}
	return err == nil, err
}
