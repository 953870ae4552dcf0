package wiretest

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/arpd"
	"shunt/forwarder/frame"
	"shunt/internal/lab"
	"shunt/internal/netlab"
)

// A wire is a socket that sends whole frames by a host's eth0, as they are and in their order: from
// one processor, since frames that are sent from several may overtake each other on their way.
type wire struct {
	w     *world
	fd    int
	index int
	jobs  chan func() error // for the thread that sends
	done  chan error
}

func (w *world) wire(h *netlab.Host) *wire {
	w.t.Helper()
	link, err := h.Netlink().LinkByName("eth0")
	w.must(err)
	out := &wire{w: w, index: link.Attrs().Index, jobs: make(chan func() error), done: make(chan error)}
	w.must(h.Do(func() (err error) {
		out.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := oneProcessor()
		for job := range out.jobs {
			out.done <- errors.Join(err, job())
		}
	}()
	w.t.Cleanup(func() { close(out.jobs); unix.Close(out.fd) })
	return out
}

// oneProcessor has the calling thread stay on one processor.
func oneProcessor() error {
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return err
	}
	cpu := 0
	for !may.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	return unix.SchedSetaffinity(0, &one)
}

func (x *wire) send(b []byte) { x.w.t.Helper(); x.flood(b, 1) }

// flood sends a frame many times.
func (x *wire) flood(b []byte, times int) {
	x.w.t.Helper()
	x.jobs <- func() error {
		for range times {
			if err := unix.Sendto(x.fd, b, 0, &unix.SockaddrLinklayer{Ifindex: x.index}); err != nil {
				return err
			}
		}
		return nil
	}
	x.w.must(<-x.done)
}

// arp sends an ARP message.
func (x *wire) arp(m arpd.Message, vlan uint16) {
	x.w.t.Helper()
	b, err := m.Frame(vlan)
	x.w.must(err)
	x.send(b)
}

func mac(s string) frame.MAC {
	hw, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return frame.MAC(hw)
}

// announcements lists when a MAC announced the VIP at a port, in a direction.
func (w *world) announcements(c *netlab.Capture, toHost bool, who string) (out []time.Time) {
	vip := netip.MustParseAddr(w.family.vip)
	for _, r := range c.Records() {
		m, err := arpd.Parse(r.Data)
		if err == nil && r.ToHost == toHost && m.Sender == vip && m.Target == vip && m.SenderMAC.String() == who {
			out = append(out, r.Time)
		}
	}
	return out
}

// Another host announces the VIP as its own: it is named, counted, and contradicted at once, so
// that the client comes back.
func TestAnotherHostClaimsVIP(t *testing.T) {
	eachFamily(t, 2, anotherHostClaimsVIP, "one-arm")
}

func anotherHostClaimsVIP(t *testing.T, w *world) {
	w.start(w.config("arp: {announce: 0}", w.http("rr", realserver{address: w.family.rip(1), weight: 1})))
	// Without a period there are just the announcements of the start: what comes after them is the
	// defence.
	w.eventually("the announcements of the start are over", func() bool { return w.leg("eth0").ARP.Announced == 3 })
	w.pages(1, 1)
	captures := w.capture()
	const intruder = "02:00:00:00:00:66"
	vip := netip.MustParseAddr(w.family.vip)
	w.wire(w.Webs[1]).arp(arpd.Message{
		Reply: vip.Is6(), SenderMAC: mac(intruder), Sender: vip, Target: vip, Source: mac(intruder), Destination: arpd.Broadcast,
	}, 0)
	w.logged("level=ERROR", "another host claims the VIP", w.family.vip, intruder)
	if n := w.leg("eth0").ARP.Conflicts; n != 1 {
		t.Errorf("%d conflicts were counted, not 1", n)
	}
	w.eventually("the VIP is defended after it was claimed", func() bool {
		claims, defences := w.announcements(captures["client"], true, intruder), w.announcements(captures["client"], true, lab.DirectorMAC)
		return len(claims) == 1 && slices.ContainsFunc(defences, claims[0].Before)
	})
	w.eventually("the client believes the director", func() bool { return w.believes(w.Client, w.family.vip) == lab.DirectorMAC })
	w.pages(3, 1)
}

// believes returns the MAC that a host's kernel has for an address, or "".
func (w *world) believes(h *netlab.Host, addr string) string {
	w.t.Helper()
	link, err := h.Netlink().LinkByName("eth0")
	w.must(err)
	list, err := h.Netlink().NeighList(link.Attrs().Index, unix.AF_UNSPEC)
	w.must(err)
	for _, n := range list {
		if n.IP.Equal(net.ParseIP(addr)) {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

// A realserver that answers ARP for the VIP is the classic mistake of direct routing: the log says
// which one it is, and what to set there.
func TestRealserverAnswersForVIP(t *testing.T) {
	eachFamily(t, 2, realserverAnswersForVIP, "one-arm")
}

func realserverAnswersForVIP(t *testing.T, w *world) {
	what, remedy := "a realserver answers ARP for the VIP", "arp_ignore=1"
	damage := func() { w.must(w.Webs[1].Sysctl("net.ipv4.conf.all.arp_ignore", "0")) }
	cure := func() { w.must(w.Webs[1].Sysctl("net.ipv4.conf.all.arp_ignore", "1")) }
	if w.family.name == ipv6Family.name { // which answers for the addresses of the interface only
		what, remedy = "a realserver answers neighbour solicitations for the VIP", "the VIP on lo"
		link, err := w.Webs[1].Netlink().LinkByName("eth0")
		w.must(err)
		addr, err := netlink.ParseAddr(w.family.vip + w.family.alone)
		w.must(err)
		damage = func() { w.must(w.Webs[1].Addr("eth0", w.family.vip+w.family.alone)) }
		cure = func() { w.must(w.Webs[1].Netlink().AddrDel(link, addr)) }
	}
	w.start(w.config("arp: {announce: 1s}", w.http("rr")))
	if n := w.leg("eth0").ARP.Conflicts; n != 0 {
		t.Fatalf("%d conflicts on a network without any", n)
	}
	captures := w.capture()
	damage()
	w.logged("level=ERROR", what, w.family.vip, lab.MAC(2), "realserver="+w.family.rip(2), remedy)
	if n := w.leg("eth0").ARP.Conflicts; n == 0 {
		t.Error("no conflict was counted")
	}
	w.eventually("the VIP is defended", func() bool { return len(w.announcements(captures["client"], true, lab.DirectorMAC)) > 0 })
	cure()
	// It is enough to set it right: the count stands still from then on, while the probes go on.
	quiet := func() bool {
		before := w.status()
		w.eventually("the VIP is announced again", func() bool {
			return w.leg("eth0").ARP.Announced >= legOf(&before, "eth0").ARP.Announced+2
		})
		return w.leg("eth0").ARP.Conflicts == legOf(&before, "eth0").ARP.Conflicts
	}
	w.eventually("there are no more conflicts", quiet)
	w.eventually("the client believes no realserver to have the VIP", func() bool {
		return !slices.Contains([]string{lab.MAC(1), lab.MAC(2)}, w.believes(w.Client, w.family.vip))
	})
}
