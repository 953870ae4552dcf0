package guard

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"

	"shunt/internal/netlab"
)

func TestMain(m *testing.M) {
	if err := netlab.Privileged(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A host that has the VIP must not see what is sent to it while the guard is there, and must see
// all else.
func TestGuard(t *testing.T) {
	n := netlab.New()
	defer n.Close()
	sw, err := n.Switch("sw")
	if err != nil {
		t.Fatal(err)
	}
	client, err := n.Host("client")
	if err != nil {
		t.Fatal(err)
	}
	director, err := n.Host("director")
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range []*netlab.Host{client, director} {
		if err := h.Cable("eth0", fmt.Sprintf("02:00:00:00:00:%02x", i+1), sw, h.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Addr("eth0", "10.0.0.1/24"); err != nil {
		t.Fatal(err)
	}
	if err := director.Addr("eth0", "10.0.0.2/24", "10.0.0.100/24"); err != nil {
		t.Fatal(err)
	}
	vip, dip := netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.2")
	server, err := director.ListenPacket("udp4", "0.0.0.0:9")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	// arrives reports whether the director's kernel gets a datagram to addr, or else one to its own
	// address sent after. On a busy machine the second may be faster, seldom.
	round := byte(0)
	arrives := func(addr netip.Addr) bool {
		t.Helper()
		c, err := client.Dial(&net.Dialer{}, "udp4", netip.AddrPortFrom(addr, 9).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		marker, err := client.Dial(&net.Dialer{}, "udp4", netip.AddrPortFrom(dip, 9).String())
		if err != nil {
			t.Fatal(err)
		}
		defer marker.Close()
		round++
		if _, err := c.Write([]byte{'x', round}); err != nil {
			t.Fatal(err)
		}
		if _, err := marker.Write([]byte{'m', round}); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		seen := false
		for {
			_ = server.SetReadDeadline(time.Now().Add(20 * time.Second))
			k, _, err := server.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			if k != 2 || buf[1] != round {
				continue // of an earlier round
			}
			if buf[0] == 'm' {
				return seen
			}
			seen = true
		}
	}
	if !soon(arrives, vip) {
		t.Fatal("without a guard the datagram did not arrive: this test shows nothing")
	}
	var g *Guard
	install := func() error {
		return director.Do(func() (err error) {
			g, err = Install("/run/a.sock", []string{"eth0"}, []netip.Addr{vip, netip.MustParseAddr("2001:db8::1")}, nil)
			return err
		})
	}
	if err := install(); err != nil {
		t.Fatal(err)
	}
	if arrives(vip) {
		t.Error("with the guard a datagram to the VIP reached the kernel")
	}
	kill(t, g)
	if err := install(); err != nil {
		t.Fatalf("over the rules that a killed director left: %v", err)
	}
	if got := found(t, director); len(got) != 1 {
		t.Errorf("after a second installation there are the tables %v", got)
	}
	if arrives(vip) {
		t.Error("after a second installation a datagram to the VIP reached the kernel")
	}
	if err := director.Do(func() error { return g.SetVIPs([]netip.Addr{netip.MustParseAddr("10.0.0.101")}) }); err != nil {
		t.Fatal(err)
	}
	if !soon(arrives, vip) {
		t.Error("an address that is no VIP any more is still kept from the kernel")
	}
	if err := director.Do(func() error { return g.SetVIPs([]netip.Addr{vip}) }); err != nil {
		t.Fatal(err)
	}
	if arrives(vip) {
		t.Error("with the guard a datagram to the VIP reached the kernel")
	}
	if err := director.Do(func() error { return g.SetOwn([]netip.Addr{vip, dip}) }); err != nil {
		t.Fatal(err)
	}
	if !soon(arrives, vip) || len(g.State().Exposed) != 1 {
		t.Errorf("an address of the host is kept from it; exposed are %v", g.State().Exposed)
	}
	if err := director.Do(func() error { return g.SetOwn([]netip.Addr{dip}) }); err != nil {
		t.Fatal(err)
	}
	if arrives(vip) || len(g.State().Exposed) != 0 {
		t.Errorf("what is not the host's address any more is not guarded; exposed are %v", g.State().Exposed)
	}
	if err := director.Do(g.Close); err != nil {
		t.Fatal(err)
	}
	err = director.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		if len(tables) != 0 {
			t.Errorf("%d tables are left behind", len(tables))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := director.Do(func() error { return Remove([]string{"shunt_12345678_eth0"}) }); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
}

// soon tries several times.
func soon(arrives func(netip.Addr) bool, addr netip.Addr) bool {
	for range 20 {
		if arrives(addr) {
			return true
		}
	}
	return false
}

// Ten thousand VIPs are guarded like one, and can be exchanged.
func TestManyVIPs(t *testing.T) {
	n := netlab.New()
	defer n.Close()
	sw, err := n.Switch("sw")
	if err != nil {
		t.Fatal(err)
	}
	director, err := n.Host("director")
	if err != nil {
		t.Fatal(err)
	}
	if err := director.Cable("eth0", "02:00:00:00:00:02", sw, "director"); err != nil {
		t.Fatal(err)
	}
	many := func(first byte) (out []netip.Addr) {
		for i := range 10000 {
			out = append(out, netip.AddrFrom4([4]byte{first, 1, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, first, 14: byte(i >> 8), 15: byte(i)}))
		}
		return out
	}
	err = director.Do(func() error {
		begin := time.Now()
		g, err := Install("/run/a.sock", []string{"eth0"}, many(10), nil)
		if err != nil {
			return err
		}
		defer g.Close()
		t.Logf("20,000 VIPs in %s", time.Since(begin))
		if err := g.SetVIPs(many(11)); err != nil {
			return err
		}
		begin = time.Now()
		one := append(many(11)[1:], netip.MustParseAddr("11.2.0.0"))
		if err := g.ChangeVIPs(one, one[len(one)-1:], many(11)[:1]); err != nil {
			return err
		}
		t.Logf("one exchanged in %s", time.Since(begin))
		if ok, err := whole(g); !ok || err != nil {
			t.Errorf("something is missing: %v, %v", g.State(), err)
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := tableOf(g.State().Tables[0])
		for _, name := range []string{"vips4", "vips6"} {
			set, err := c.GetSetByName(table, name)
			if err != nil {
				return err
			}
			elements, err := c.GetSetElements(set)
			if err != nil {
				return err
			}
			got := map[netip.Addr]bool{}
			for _, e := range elements {
				a, _ := netip.AddrFromSlice(e.Key)
				got[a] = true
			}
			missing := 0
			for _, v := range one {
				if v.Is4() == (name == "vips4") && !got[v] {
					missing++
				}
			}
			if len(elements) != 10000 || missing > 0 {
				t.Errorf("set %s has %d addresses, and %d are missing", name, len(elements), missing)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
