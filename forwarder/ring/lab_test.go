package ring

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// patient bounds the waits of the tests. Nothing should ever take that long: it is there so that a
// test which fails ends.
const patient = 20 * time.Second

// A wire is a pair of veth interfaces: a leg of the director, and the interface at the other end,
// with a socket.
type wire struct {
	t    testing.TB
	link netlink.Link // the director's end
	peer netlink.Link
	mac  frame.MAC // of the director's end
	far  frame.MAC
	fd   int
	out  []byte
	in   []byte
	oob  []byte
}

// newLab puts the calling goroutine's thread into a network namespace of its own, with n wires in
// it. The namespace ends with the thread, and this with the goroutine, and with the last socket.
func newLab(t testing.TB, n int) []*wire {
	t.Helper()
	if noNetwork != "" {
		t.Skip(noNetwork)
	}
	runtime.LockOSThread() // and never unlocked: the runtime then ends the thread
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs a network namespace: %v", err)
	}
	// Frames that are sent from different processors may overtake each other.
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err == nil {
		for cpu := range len(cpus) * 64 {
			if cpus.IsSet(cpu) {
				cpus = unix.CPUSet{}
				cpus.Set(cpu)
				break
			}
		}
		_ = unix.SchedSetaffinity(0, &cpus)
	}
	// The kernel is not to send router solicitations and the like. Where there is no IPv6 there is
	// no such file.
	for _, f := range []string{"all", "default"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+f+"/disable_ipv6", []byte("1"), 0)
	}
	var wires []*wire
	for i := range n {
		w := &wire{t: t, fd: -1, mac: frame.MAC{2, 0, 0, 0, 0xd, byte(i)}, far: frame.MAC{2, 0, 0, 0, 0xc, byte(i)},
			in: make([]byte, 1<<17), oob: make([]byte, 256)}
		veth := &netlink.Veth{
			LinkAttrs:        netlink.LinkAttrs{Name: fmt.Sprintf("d%d", i), HardwareAddr: net.HardwareAddr(w.mac[:])},
			PeerName:         fmt.Sprintf("c%d", i),
			PeerHardwareAddr: net.HardwareAddr(w.far[:]),
		}
		if err := netlink.LinkAdd(veth); errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
			t.Skipf("needs a pair of veth interfaces: %v", err)
		} else if err != nil {
			t.Fatal(err)
		}
		w.link, w.peer = w.find(veth.Name), w.find(veth.PeerName)
		w.up()
		w.open()
		wires = append(wires, w)
	}
	return wires
}

func (w *wire) find(name string) netlink.Link {
	w.t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// up sets both ends up and waits until the kernel has seen the carrier.
func (w *wire) up() {
	w.t.Helper()
	for _, l := range []netlink.Link{w.peer, w.link} {
		if err := netlink.LinkSetUp(l); err != nil {
			w.t.Fatal(err)
		}
	}
	eventually(w.t, "the interfaces are up", func() bool {
		return w.find(w.link.Attrs().Name).Attrs().OperState == netlink.OperUp && w.find(w.peer.Attrs().Name).Attrs().OperState == netlink.OperUp
	})
}

// mtu sets that of both ends.
func (w *wire) mtu(n int) {
	w.t.Helper()
	for _, l := range []netlink.Link{w.peer, w.link} {
		if err := netlink.LinkSetMTU(l, n); err != nil {
			w.t.Fatal(err)
		}
	}
}

// open opens the socket at the far end.
func (w *wire) open() {
	w.t.Helper()
	r := &resources{}
	fd, err := packetSocket(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(r.release)
	w.fd = fd
	for _, opt := range []int{unix.PACKET_VNET_HDR, unix.PACKET_AUXDATA, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, opt, 1); err != nil {
			w.t.Fatal(err)
		}
	}
	buffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
	buffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: w.peer.Attrs().Index, Protocol: networkOrder(unix.ETH_P_ALL)}); err != nil {
		w.t.Fatal(err)
	}
}

// leg is the configuration of the director's end.
func (w *wire) leg(id frame.Leg) LegConfig { return LegConfig{Leg: id, Name: w.link.Attrs().Name} }

// frame writes a frame from the far end to the director.
func (w *wire) frame(packet []byte, tags ...[4]byte) []byte {
	b := etherIP(packet, tags...)
	copy(b, w.mac[:])
	copy(b[6:], w.far[:])
	return b
}

// send sends a frame from the far end, with a virtio_net_hdr or none.
func (w *wire) send(head, data []byte) {
	w.t.Helper()
	if head == nil {
		head = noHeader[:]
	}
	w.out = append(append(w.out[:0], head...), data...)
	if _, err := unix.Write(w.fd, w.out); err != nil {
		w.t.Fatalf("send %d bytes: %v", len(data), err)
	}
}

// A got is a frame that came to the far end.
type got struct {
	head, data []byte
	tpid, tci  uint16
}

// recv waits for the next frame at the far end.
func (w *wire) recv() got {
	w.t.Helper()
	fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(patient); ; {
		n, oobn, _, _, err := unix.Recvmsg(w.fd, w.in, w.oob, 0)
		if err == unix.EAGAIN && time.Now().Before(end) {
			_, _ = unix.Poll(fds, 100)
			continue
		}
		if err != nil {
			w.t.Fatalf("nothing came to the far end: %v", err)
		}
		g := got{head: bytes.Clone(w.in[:vnetLen]), data: bytes.Clone(w.in[vnetLen:n])}
		cms, err := unix.ParseSocketControlMessage(w.oob[:oobn])
		if err != nil {
			w.t.Fatal(err)
		}
		for _, c := range cms { // struct tpacket_auxdata
			if c.Header.Type == unix.PACKET_AUXDATA && hostOrder.Uint32(c.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
				g.tci, g.tpid = hostOrder.Uint16(c.Data[16:]), hostOrder.Uint16(c.Data[18:])
			}
		}
		return g
	}
}

// eventually waits until what is said holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patient); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", patient, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// open opens an engine that is closed with the test, and lets the VIPs in.
func open(t testing.TB, cfg Config, vips ...netip.Addr) *Engine {
	t.Helper()
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.Close()
		e.res.release() // in the place of Next
	})
	if err := e.SetVIPs(vips); err != nil {
		t.Fatal(err)
	}
	return e
}

// next calls Next until n frames have come, and returns copies of them.
func next(t testing.TB, e *Engine, n int) []frame.Frame {
	t.Helper()
	var all []frame.Frame
	batch := make([]frame.Frame, 256)
	last := int64(0)
	for end := time.Now().Add(patient); len(all) < n; {
		k, now, err := e.Next(batch)
		if err != nil {
			t.Fatal(err)
		}
		if now < last {
			t.Fatalf("time steps back from %d to %d", last, now)
		}
		for _, f := range batch[:k] {
			if f.Time > now || f.Time < last {
				t.Fatalf("frame of %d in a batch of %d, after %d", f.Time, now, last)
			}
			if f.Head != vnetLen || f.Out != frame.NoLeg || len(f.Buf) < vnetLen {
				t.Fatalf("Head %d, Out %d, %d bytes", f.Head, f.Out, len(f.Buf))
			}
			f.Buf = bytes.Clone(f.Buf)
			all = append(all, f)
		}
		last = now
		if time.Now().After(end) {
			t.Fatalf("%d frames came of %d; %+v", len(all), n, e.Stats())
		}
	}
	if len(all) > n {
		t.Fatalf("%d frames came, want %d", len(all), n)
	}
	return all
}

// same compares bytes.
func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	t.Fatalf("%s: %d bytes, want %d; they differ from byte %d on", what, len(got), len(want), i)
}
