package control

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"shunt/api"
)

// A Peer is the process that asked by the socket, as the kernel knows it. The zero Peer is not
// known.
type Peer struct {
	PID      int // 0: not known, or not of this PID namespace
	UID, GID uint32
	known    bool
}

// LogValue names the user and the program, as far as they can still be seen.
func (p Peer) LogValue() slog.Value {
	if !p.known {
		return slog.StringValue("not known")
	}
	attrs := []slog.Attr{slog.Uint64("uid", uint64(p.UID))}
	if u, err := user.LookupId(strconv.FormatUint(uint64(p.UID), 10)); err == nil {
		attrs = append(attrs, slog.String("user", u.Username))
	}
	if p.PID != 0 {
		attrs = append(attrs, slog.Int("pid", p.PID))
		if name, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/comm"); err == nil {
			attrs = append(attrs, slog.String("program", api.Printable(strings.TrimSpace(string(name)))))
		}
	}
	return slog.GroupValue(attrs...)
}

type peerKey struct{}

// withPeer notes who is at the other end of a connection: SO_PEERCRED, unix(7).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

func peerOf(c net.Conn) (p Peer) {
	for {
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = inner.NetConn()
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return p
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return p
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p = Peer{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid, known: true}
		}
	})
	return p
}

func peer(ctx context.Context) Peer {
	p, _ := ctx.Value(peerKey{}).(Peer)
	return p
}
