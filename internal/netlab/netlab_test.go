package netlab

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if err := Privileged(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// pair is two hosts on a switch.
func pair(t *testing.T) (a, b, sw *Host) {
	t.Helper()
	n := New()
	t.Cleanup(n.Close)
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	var err error
	sw, err = n.Switch("sw")
	must(err)
	a, err = n.Host("a")
	must(err)
	b, err = n.Host("b")
	must(err)
	must(a.Cable("eth0", "02:00:00:00:00:0a", sw, "a"))
	must(b.Cable("eth0", "02:00:00:00:00:0b", sw, "b"))
	must(a.Addr("eth0", "10.0.0.1/24"))
	must(b.Addr("eth0", "10.0.0.2/24"))
	return a, b, sw
}

func TestTalk(t *testing.T) {
	a, b, sw := pair(t)
	path := filepath.Join(t.TempDir(), "a.pcap")
	c, err := sw.Capture("a", path)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := b.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	}()
	conn, err := a.Dial(&net.Dialer{Timeout: patience}, "tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
		t.Fatalf("read %q, %v", buf, err)
	}
	to, from := 0, 0
	for end := time.Now().Add(patience); to < 3 || from < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("recorded %d frames to the host and %d from it", to, from)
		}
		to, from = count(c)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	to, from = count(c)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		if _, _, err := r.ReadPacketData(); err != nil {
			break
		}
		n++
	}
	if n != to+from {
		t.Errorf("the file has %d frames, the memory %d", n, to+from)
	}
}

// count counts what a capture has of either direction.
func count(c *Capture) (to, from int) {
	for _, r := range c.Records() {
		if r.ToHost {
			to++
		} else {
			from++
		}
	}
	return to, from
}

// A host takes what comes for an IPv6 address as soon as it is added, and can ask its neighbours as
// soon as it has IPv6: the kernel does both later by itself.
func TestIPv6AtOnce(t *testing.T) {
	a, _, _ := pair(t)
	if err := a.IPv6("eth0"); err != nil {
		t.Fatal(err)
	}
	link, err := a.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := a.Netlink().AddrList(link, unix.AF_INET6)
	if err != nil || len(addrs) != 1 || !addrs[0].IP.IsLinkLocalUnicast() {
		t.Errorf("it has %v, %v", addrs, err)
	}
	for i := range 100 {
		ip := fmt.Sprintf("fd00::1:%x", i)
		if err := a.Addr("eth0", ip+"/64"); err != nil {
			t.Fatal(err)
		}
		if r, err := a.Netlink().RouteGet(net.ParseIP(ip)); err != nil || r[0].Type != unix.RTN_LOCAL {
			t.Fatalf("%s is not local yet: %v, %v", ip, r, err)
		}
	}
}

// What a host started dies with it.
func TestChildrenEnd(t *testing.T) {
	n := New()
	h, err := n.Host("h")
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run", "TestSleeper")
	cmd.Env = append(os.Environ(), "SHUNT_TEST_SLEEP=1")
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	n.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the command is still running")
	}
	if err := h.Do(func() error { return nil }); err == nil {
		t.Error("the host works after its end")
	}
}

// TestSleeper is the command of TestChildrenEnd.
func TestSleeper(*testing.T) {
	if os.Getenv("SHUNT_TEST_SLEEP") != "" {
		time.Sleep(time.Minute)
	}
}
