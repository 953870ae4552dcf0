package ring

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// A leg is one interface of the director: a socket with a ring to receive and one to send. They are
// two so that an error on one is not reported to the other, and receiving and sending do not share
// a lock or a buffer limit.
type leg struct {
	id frame.Leg
	attachment
	out out

	req    unix.Ifreq // the owner's, for its ioctls
	strays int
	drops  uint64 // of the rings, as far as they were read; guarded by the resources' mutex

	down, gone atomic.Bool
	count      counters
}

// attachment is what binds a leg to one interface of the kernel: all that has to be another when
// another interface takes its place. It changes with the resources' mutex held, and by the owner
// only, who may therefore read it without.
type attachment struct {
	name  string
	index int
	rx    int // -1: there is none
	tx    int
	walk  walker
	mtu   int // bytes of the longest IP packet
	res   *resources
}

// detached is the attachment of a leg that has no interface: it receives nothing, and sends
// nothing.
func detached(name string) attachment { return attachment{name: name, rx: -1, tx: -1} }

func (c *LegConfig) label() string {
	if c.Name != "" {
		return c.Name
	}
	return "number " + strconv.Itoa(c.Index)
}

// howToGrant says what to do about a missing capability.
const howToGrant = "the capability CAP_NET_RAW is missing: run as root, or `setcap cap_net_raw,cap_net_admin+ep` the program, " +
	"or give the systemd unit AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN"

// packetSocket opens an AF_PACKET socket that receives nothing yet.
func packetSocket(r *resources) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) {
		return -1, fmt.Errorf("open a packet socket: %w: %s", err, howToGrant)
	}
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	r.fds = append(r.fds, fd)
	return fd, nil
}

func set(fd, level, opt, value int, name string) error {
	if err := unix.SetsockoptInt(fd, level, opt, value); err != nil {
		return fmt.Errorf("set %s to %d: %w", name, value, err)
	}
	return nil
}

// buffer sets a limit of socket memory, beyond the system's maximum where we are allowed to.
func buffer(fd, force, plain int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, queueBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, queueBytes)
	}
}

// openLeg opens the leg that is at place i of the configuration. If it fails, it leaves nothing
// open.
func openLeg(lc LegConfig, cfg *Config, i int) (*leg, error) {
	l := &leg{id: lc.Leg, attachment: detached(lc.Name)}
	l.index, l.res = lc.Index, &resources{}
	if l.index == 0 {
		ifi, err := net.InterfaceByName(lc.Name)
		if err != nil {
			return nil, fmt.Errorf("%w: `ip link` lists the interfaces", err)
		}
		l.index = ifi.Index
	}
	if err := l.open(cfg, i); err != nil {
		l.res.release()
		return nil, err
	}
	return l, nil
}

func (l *leg) open(cfg *Config, i int) (err error) {
	if l.rx, err = packetSocket(l.res); err != nil {
		return err
	}
	if err := l.identify(); err != nil {
		return err
	}
	if err := l.openRing(cfg, l.res); err != nil {
		return err
	}
	if err := l.attach(cfg, i); err != nil {
		return err
	}
	if err := l.openOut(l.res); err != nil {
		return err
	}
	l.out.use(l.tx)
	return nil
}

// identify checks that the interface is there and is one that the director can use.
func (l *leg) identify() error {
	// Bound to protocol 0 a socket receives nothing, but knows its interface.
	if err := unix.Bind(l.rx, &unix.SockaddrLinklayer{Ifindex: l.index}); err != nil {
		return fmt.Errorf("bind to interface number %d: %w", l.index, err)
	}
	sa, err := unix.Getsockname(l.rx)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	switch hw := sa.(*unix.SockaddrLinklayer).Hatype; hw {
	case unix.ARPHRD_ETHER:
	case unix.ARPHRD_LOOPBACK:
		return errors.New("is the loopback interface: its frames have no MAC addresses: use an Ethernet interface")
	default:
		return fmt.Errorf("is not Ethernet (ARPHRD type %d): the director forwards by MAC address", hw)
	}
	l.look()
	if l.gone.Load() {
		return unix.ENODEV
	}
	if l.name == "" {
		l.name = l.req.Name()
	}
	return nil
}

// look reads the state of the interface, by its number: it may have been renamed. The owner calls
// it.
func (l *leg) look() {
	l.req.SetUint32(uint32(l.index))
	if err := unix.IoctlIfreq(l.rx, unix.SIOCGIFNAME, &l.req); err != nil {
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			l.gone.Store(true)
			l.down.Store(true)
		}
		return
	}
	if unix.IoctlIfreq(l.rx, unix.SIOCGIFFLAGS, &l.req) == nil {
		const up = unix.IFF_UP | unix.IFF_RUNNING
		l.down.Store(l.req.Uint16()&up != up)
	}
	if unix.IoctlIfreq(l.rx, unix.SIOCGIFMTU, &l.req) == nil {
		l.mtu = int(l.req.Uint32())
	}
}

// openRing sets up the receiving socket: all that must be so before the first frame.
func (l *leg) openRing(cfg *Config, r *resources) error {
	fd := l.rx
	if err := attachFilter(fd, rejectAll()); err != nil {
		return err
	}
	if err := set(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2, "PACKET_VERSION"); err != nil {
		return err
	}
	if err := set(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1, "PACKET_VNET_HDR"); err != nil {
		return err
	}
	// Without it (Linux before 4.20) our own frames are passed over one by one.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err := set(fd, unix.SOL_PACKET, unix.PACKET_COPY_THRESH, 1, "PACKET_COPY_THRESH"); err != nil {
		return err
	}
	buffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
	for slots := cfg.Slots; ; slots /= 2 {
		g := newGeometry(slots, cfg.SlotSize, os.Getpagesize())
		req := unix.TpacketReq{
			Block_size: uint32(g.blockSize), Block_nr: uint32(g.slots / g.perBlock),
			Frame_size: uint32(g.slotSize), Frame_nr: uint32(g.slots),
		}
		err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req)
		if errors.Is(err, unix.ENOMEM) && slots/2 >= MinSlots {
			continue
		}
		if err != nil {
			return fmt.Errorf("set up a ring of %d slots of %d bytes: %w", g.slots, g.slotSize, err)
		}
		mem, err := unix.Mmap(fd, 0, g.size(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map a ring of %d bytes: %w", g.size(), err)
		}
		r.maps = append(r.maps, mem)
		l.walk = newWalker(mem, g)
		return nil
	}
}

// attach lets the socket receive, through its fanout group if there are several workers. ETH_P_ALL
// taps see a frame before the ingress hooks of tc and nftables, so that these may keep it from the
// kernel's own stack.
func (l *leg) attach(cfg *Config, i int) error {
	all := unix.SockaddrLinklayer{Ifindex: l.index, Protocol: networkOrder(unix.ETH_P_ALL)}
	if err := unix.Bind(l.rx, &all); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if cfg.FanoutGroup == 0 {
		return nil
	}
	group := int(cfg.FanoutGroup) + i
	err := unix.SetsockoptInt(l.rx, unix.SOL_PACKET, unix.PACKET_FANOUT, group|fanoutKind<<16)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.15 the flag is not known
		err = unix.SetsockoptInt(l.rx, unix.SOL_PACKET, unix.PACKET_FANOUT, group|unix.PACKET_FANOUT_CBPF<<16)
	}
	if err != nil {
		return fmt.Errorf("join fanout group %d: %w: if another program uses the group, choose another number", group, err)
	}
	prog, err := shardProgram(cfg.FanoutWorkers)
	if err != nil {
		return err
	}
	fp := fprog(prog)
	if err := unix.SetsockoptSockFprog(l.rx, unix.SOL_PACKET, unix.PACKET_FANOUT_DATA, &fp); err != nil {
		return fmt.Errorf("set the program of fanout group %d: %w", group, err)
	}
	return nil
}

// networkOrder swaps a protocol number on a host of either byte order.
func networkOrder(p uint16) uint16 {
	var b [2]byte
	b[0], b[1] = byte(p>>8), byte(p)
	return hostOrder.Uint16(b[:])
}
