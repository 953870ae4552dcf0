package wire

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shunt/bench/afpacket"
	"shunt/internal/netlab"
)

// drLab is a client, a director and some realservers behind a switch. The realservers reach the
// client by the switch (direct routing) or by the director (NAT).
//
//	client c0 --- eth0 director eth1 --- switch --- r0 of each realserver
//	       c1 -----------------------------'
type drLab struct {
	lab
	reals  []*netlab.Host
	served []net.Listener
}

const directorInside = "10.0.0.2"

func realIP(i int) string { return fmt.Sprintf("10.0.%d.%d", 1+i/200, 11+i%200) }

func realHW(i int) string { return fmt.Sprintf("02:00:00:01:%02x:%02x", i>>8, i&255) }

func newDRLab(n int, direct bool, page int) (*drLab, error) {
	l := &drLab{lab: lab{net: netlab.New()}}
	if err := l.build(n, direct, page); err != nil {
		l.close()
		return nil, fmt.Errorf("laboratory of %d realservers: %w", n, err)
	}
	return l, nil
}

func (l *drLab) close() {
	for _, ln := range l.served {
		_ = ln.Close()
	}
	l.net.Close()
}

func (l *drLab) build(n int, direct bool, page int) (err error) {
	if l.client, err = l.net.Host("client"); err != nil {
		return err
	}
	if l.director, err = l.net.Host("director"); err != nil {
		return err
	}
	sw, err := l.net.Switch("switch")
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return l.client.Cable("c0", clientMAC, l.director, "eth0") },
		func() error { return l.director.SetMAC("eth0", inMAC) },
		func() error { return l.director.Cable("eth1", outMAC, sw, "director") },
		func() error { return l.client.Cable("c1", homeMAC, sw, "client") },
		func() error { return l.client.Addr("c0", clientIP+"/24") },
		func() error { return l.director.Addr("eth0", "198.51.100.2/24") },
		func() error { return l.director.Addr("eth1", directorInside+"/16") },
		func() error { return route(l.client, vip+"/32", "c0") },
		func() error { return neighbour(l.client, "c0", vip, inMAC) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if !direct {
		if err := l.director.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
			return err
		}
	}
	for _, i := range []string{"all", "c0", "c1"} {
		_ = l.client.Sysctl("net.ipv4.conf."+i+".rp_filter", "0")
	}
	body := strings.Repeat("x", page)
	for i := range n {
		if err := l.realserver(sw, i, direct, body); err != nil {
			return err
		}
	}
	return l.announce()
}

// announce has the switch learn where the client's second interface is, by a frame of its own:
// otherwise each answer would go to every port, the director's too.
func (l *drLab) announce() error {
	return l.client.Do(func() error {
		fd, err := afpacket.Open("c1", 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		frame := make([]byte, 60)
		src, err := net.ParseMAC(homeMAC)
		if err != nil {
			return err
		}
		copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		copy(frame[6:], src)
		frame[12], frame[13] = 0x88, 0xb5 // for local experiments (IEEE 802)
		_, err = unix.Write(fd, frame)
		return err
	})
}

// realserver adds one, which serves pages.
func (l *drLab) realserver(sw *netlab.Host, i int, direct bool, body string) error {
	h, err := l.net.Host(fmt.Sprintf("web%d", i+1))
	if err != nil {
		return err
	}
	l.reals = append(l.reals, h)
	if err := h.Cable("r0", realHW(i), sw, fmt.Sprintf("web%d", i+1)); err != nil {
		return err
	}
	if err := h.Addr("r0", realIP(i)+"/16"); err != nil {
		return err
	}
	if direct {
		if err := h.Realserver(vip); err != nil {
			return err
		}
		if err := route(h, "198.51.100.0/24", "r0"); err != nil {
			return err
		}
		if err := neighbour(h, "r0", clientIP, homeMAC); err != nil {
			return err
		}
	} else if err := h.DefaultRoute(directorInside); err != nil {
		return err
	}
	ln, err := h.Listen("tcp", "0.0.0.0:80")
	if err != nil {
		return err
	}
	l.served = append(l.served, ln)
	srv := &http.Server{ReadHeaderTimeout: dialPatience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body)
	})}
	go func() { _ = srv.Serve(ln) }()
	return nil
}

// natRules spread connections over n realservers, and translate them.
func natRules(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table ip peer {\nchain pre {\ntype nat hook prerouting priority -100\nip daddr %s tcp dport 80 dnat to numgen inc mod %d map {", vip, n)
	for i := range n {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %d : %s", i, realIP(i))
	}
	b.WriteString(" }\n}\n}\n")
	return b.String()
}

// nat gives the director's kernel the rules.
func (l *drLab) nat(nft string) error {
	cmd := exec.Command(nft, "-f", "-")
	out := &tail{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(natRules(len(l.reals))), out, out
	if err := l.director.Start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out.b)
	}
	return nil
}

// drConfig is shunt's, with n realservers. It does not spin: looking for frames is no cost of a
// request.
func drConfig(socket string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "legs:\n  - interface: eth0\n  - interface: eth1\ncontrol: {socket: %s}\nlog: {level: warn, format: text}\n"+
		"ring: {busy: powersave}\nservices:\n  - address: %s\n    port: 80\n    scheduler: rr\n    realservers:\n", socket, vip)
	for i := range n {
		fmt.Fprintf(&b, "      - {address: %s, mac: %q}\n", realIP(i), realHW(i))
	}
	return b.String()
}

// settleTime is how long a new laboratory is left alone.
const settleTime = 300 * time.Millisecond
