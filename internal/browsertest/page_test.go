//go:build browser

package browsertest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/vishvananda/netlink"

	"shunt/internal/lab"
	"shunt/internal/netlab"
)

func TestMain(m *testing.M) {
	if err := netlab.Privileged(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if lo, err := netlink.LinkByName("lo"); err == nil { // the browser and its window are on it
		_ = netlink.LinkSetUp(lo)
	}
	os.Exit(m.Run())
}

// patience bounds every wait for something that must come.
const patience = 60 * time.Second

// evil is the name of a service: it must be shown as it is.
const evil = `<img src=x onerror=document.title='owned'> & "co"`

const config = `legs: [{interface: eth0}]
log: {format: text}
control: {socket: %s}
http: {listen: 9405}
arp: {watch: 1s}
services:
  - {name: web, address: 192.168.10.100, port: 80, scheduler: rr, realservers: [{address: 10.10.0.11}, {address: 10.10.0.12}]}
  - {name: %q, address: 192.168.10.100, port: 443, scheduler: rr, realservers: [{address: 10.10.0.12, weight: 0}]}
`

// window lets the browser, which is on our host, see the page, which the director has on its
// loopback: a listener here whose connections are carried there.
func window(t *testing.T, h *netlab.Host) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				far, err := h.Dial(&net.Dialer{}, "tcp", "127.0.0.1:9405")
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(far, c); far.Close() }()
				_, _ = io.Copy(c, far)
			}()
		}
	}()
	return "http://" + ln.Addr().String() + "/"
}

// browser starts Chromium and returns the context of its only page. What the page complains of
// fails the test.
func browser(t *testing.T) context.Context {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Fatal("there is no chromium: run .ci/browser, which installs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1280, 1000))
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	thrown, said := chromedp.Events(ctx, runtime.ExceptionThrown), chromedp.Events(ctx, log.EntryAdded)
	var wg sync.WaitGroup
	wg.Go(func() {
		for e, err := range thrown {
			if err == nil {
				t.Errorf("the page's script failed: %v", e.ExceptionDetails)
			}
		}
	})
	wg.Go(func() {
		for e, err := range said { // the policy's refusals are among them
			if err == nil && !strings.Contains(e.Entry.Text, "net::ERR_") { // at the end the director does not answer
				t.Errorf("the browser says: %s %s", e.Entry.Text, e.Entry.URL)
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	if err := chromedp.Do(ctx, call(runtime.Enable, cdp.Empty{}), call(log.Enable, cdp.Empty{})); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// call is a command of the protocol as an action.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// page is one that is open.
type page struct {
	t   *testing.T
	ctx context.Context
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// value evaluates JavaScript.
func value[T any](p *page, js string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](js))
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// becomes waits until JavaScript is true.
func (p *page) becomes(what, js string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !value[bool](p, js); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it is still not so that %s; the page:\n%s", what, value[string](p, "document.body.innerText"))
		}
	}
}

// shot takes a picture of the whole page, for people to look at.
func (p *page) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("SHUNT_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		p.t.Error(err)
	}
}

func TestPage(t *testing.T) {
	network, err := lab.Build("one-arm", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	for _, h := range network.Webs {
		stop, err := lab.Serve(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	dir, err := os.MkdirTemp("", "bt") // not t.TempDir: the path of a unix socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s.sock")
	binary := cmp.Or(os.Getenv("SHUNT_BINARY"), "../../bin/shunt")
	director, err := network.Start(binary, dir, fmt.Sprintf(config, socket, evil), socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	running := true
	defer func() {
		if running {
			_ = director.Stop()
		}
		if t.Failed() {
			t.Logf("the director's log:\n%s", director.Log())
		}
	}()

	p := &page{t, browser(t)}
	p.do(chromedp.Navigate(window(t, network.Director)), chromedp.WaitVisible("#main"))

	// What is there.
	p.becomes("the title has the one warning, and no others since the realservers are known", "document.title.startsWith('(1) shunt on ')")
	if n := value[int](p, "document.querySelectorAll('section.service').length"); n != 2 {
		t.Errorf("there are %d services", n)
	}
	if name := value[string](p, "document.querySelectorAll('section.service h2')[1].firstChild.nodeValue.trim()"); name != evil {
		t.Errorf("a service is called %q", name)
	}
	if n := value[int](p, "document.querySelectorAll('img, main script').length"); n != 0 {
		t.Errorf("the name of a service became %d elements", n)
	}
	p.becomes("both realservers are up", "document.querySelectorAll('.state.good').length === 3") // and the leg
	if bg := value[string](p, "getComputedStyle(document.querySelector('.tile')).backgroundColor"); bg != "rgb(255, 255, 255)" {
		t.Errorf("the style is not there: a tile is %s", bg)
	}
	// Tables that a screen reader understands: each has headings of columns and of rows.
	if bad := value[int](p, "[...document.querySelectorAll('table')].filter(t => !t.querySelector('thead th[scope=col]') || "+
		"t.querySelector('tbody tr') && !t.querySelector('tbody th[scope=row]')).length"); bad != 0 {
		t.Errorf("%d tables lack headings", bad)
	}
	if bad := value[int](p, "[...document.querySelectorAll('svg')].filter(s => !s.getAttribute('aria-label')).length"); bad != 0 {
		t.Errorf("%d charts say nothing to those who do not see them", bad)
	}

	// It updates itself, in place: what a person did to it stays.
	value[bool](p, "window.before = document.querySelector('#verdicts tbody th'); true")
	browse(t, network, 40)
	p.becomes("the new connections are shown", "[...document.querySelectorAll('.service td')].some(td => td.textContent.trim() === '20')")
	p.becomes("the chart has a line that rises", "/at most [1-9]/.test(document.querySelector('.tile .spark').getAttribute('aria-label'))")
	if !value[bool](p, "window.before.isConnected && window.before.textContent === 'forwarded'") {
		t.Error("the page was made anew, not updated in place")
	}

	// Somebody else answers for the VIP.
	if err := network.Webs[0].Sysctl("net.ipv4.conf.all.arp_ignore", "0"); err != nil {
		t.Fatal(err)
	}
	if err := network.Webs[0].Sysctl("net.ipv4.conf.eth0.arp_ignore", "0"); err != nil {
		t.Fatal(err)
	}
	p.becomes("the conflict is shown", "document.querySelector('#conflicts') !== null && "+
		"/Realserver 10.10.0.11 .* answers ARP for the VIP/.test(document.querySelector('#warnings').textContent)")
	p.shot("page")

	// In the dark, and on a phone.
	p.do(call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	}))
	if bg := value[string](p, "getComputedStyle(document.body).backgroundColor"); bg != "rgb(18, 22, 27)" {
		t.Errorf("in the dark the page is %s", bg)
	}
	p.shot("page-dark")
	p.do(call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{}), chromedp.EmulateViewport(375, 800, chromedp.EmulateMobile))
	if over := value[int](p, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		t.Errorf("on a phone the page is %d pixels too wide", over)
	}
	if hidden := value[int](p, "[...document.querySelectorAll('.service .scroll')].filter(s => s.scrollWidth > s.clientWidth + 1).length"); hidden != 0 {
		t.Errorf("on a phone %d tables of realservers are cut", hidden)
	}
	p.shot("page-phone")

	// The director ends.
	running = false
	if err := director.Stop(); err != nil {
		t.Error(err)
	}
	p.becomes("the page says that the director does not answer", "!document.getElementById('lost').hidden && "+
		"/since \\d\\d:\\d\\d:\\d\\d/.test(document.getElementById('lost').textContent)")
}

// browse has the client fetch n pages through the director, each over a connection of its own.
func browse(t *testing.T, network *lab.Network, n int) {
	t.Helper()
	var mu sync.Mutex
	port := 20000
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, nw, address string) (net.Conn, error) {
			mu.Lock()
			port++
			d := &net.Dialer{Timeout: patience / 2, LocalAddr: &net.TCPAddr{IP: net.ParseIP(lab.ClientIP), Port: port}}
			mu.Unlock()
			return network.Client.Dial(d, nw, address)
		},
	}}
	for range n {
		if _, err := lab.Fetch(t.Context(), client, "http://"+lab.VIP+"/"); err != nil {
			t.Fatal(err)
		}
	}
}
