package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/api"
)

func client(t *testing.T, at Socket, f fake, log *slog.Logger) *api.Client {
	t.Helper()
	at.Path, at.Mode = filepath.Join(t.TempDir(), "s"), 0o600
	s, err := Listen(at, f, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return api.NewClient(at.Path)
}

// raw asks with a body as it is.
func raw(t *testing.T, socket, method, path string, body io.Reader) (int, string) {
	t.Helper()
	h := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }, DisableKeepAlives: true}}
	req, err := http.NewRequest(method, "http://shunt"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func socketOf(t *testing.T, f fake, readOnly bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(Socket{Path: path, Mode: 0o600, ReadOnly: readOnly}, f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return path
}

// Who changes something is known, by the kernel's word.
func TestPeer(t *testing.T) {
	applied := make(chan Peer, 1)
	var log bytes.Buffer
	c := client(t, Socket{}, fake{conns: 2, applied: applied}, slog.New(slog.NewJSONHandler(&log, nil)))
	if err := c.Apply(context.Background(), []api.Change{{Op: api.OpFlush}}); err != nil {
		t.Fatal(err)
	}
	p := <-applied
	if p.PID != os.Getpid() || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) {
		t.Errorf("the peer is %+v", p)
	}
	if _, err := c.Kill(context.Background(), api.Kill{All: true}); err != nil {
		t.Fatal(err)
	}
	var line struct {
		Msg         string
		Connections int
		By          struct {
			UID, PID int
			Program  string
		}
	}
	if err := json.Unmarshal(log.Bytes(), &line); err != nil || line.Connections != 2 || line.By.PID != os.Getpid() || line.By.UID != os.Getuid() || line.By.Program == "" {
		t.Errorf("%+v, %v: %s", line, err, log.String())
	}
}

// The read-only socket answers what is asked, and says what it is to who would change something.
func TestReadOnly(t *testing.T) {
	socket := socketOf(t, fake{conns: 3}, true)
	c, ctx := api.NewClient(socket), context.Background()
	for _, rt := range routes {
		path := rt.path
		if rt.method == http.MethodGet {
			if path == "/v1/explain" {
				path += "?packet=x"
			}
			if status, text := raw(t, socket, rt.method, path, nil); status != http.StatusOK {
				t.Errorf("%s %s: %d %s", rt.method, path, status, text)
			}
			continue
		}
		if status, text := raw(t, socket, rt.method, path, strings.NewReader("[]")); status != http.StatusForbidden || !strings.Contains(text, "read-only") {
			t.Errorf("%s %s: %d %s", rt.method, path, status, text)
		}
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH"} {
		if status, _ := raw(t, socket, method, "/v1/changes", nil); status != http.StatusForbidden {
			t.Errorf("%s: %d", method, status)
		}
	}
	if err := c.Apply(ctx, []api.Change{{Op: api.OpFlush}}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a change: %v", err)
	}
}

func TestNewRoutes(t *testing.T) {
	socket := socketOf(t, fake{}, false)
	c, ctx := api.NewClient(socket), context.Background()
	at := netip.MustParseAddr("10.0.0.1")
	if got, err := c.Drain(ctx, api.Servers{Realserver: at, Service: "web"}); err != nil || len(got) != 1 || got[0] != (api.WeightChange{Service: "web", Realserver: at, Old: 3}) {
		t.Errorf("drain: %v, %v", got, err)
	}
	var refused *api.Error
	if _, err := c.Enable(ctx, api.Servers{Realserver: at}); !errors.As(err, &refused) || refused.Code != api.CodeNoServer {
		t.Errorf("enable: %v", err)
	}
	var field *api.FieldError
	if _, err := c.Drain(ctx, api.Servers{}); !errors.As(err, &field) || field.Field != "realserver" {
		t.Errorf("drain of nobody: %v", err)
	}
	if got, err := c.Config(ctx); err != nil || got.YAML != "services: []\n" {
		t.Errorf("config: %v, %v", got, err)
	}
	if _, err := c.Reload(ctx); !errors.As(err, &refused) || refused.Code != api.CodeReload || !strings.Contains(err.Error(), "shunt.yaml:3:1") {
		t.Errorf("reload: %v", err)
	}
}

// What is asked is bounded, and what is repeated of it.
func TestBounds(t *testing.T) {
	socket := socketOf(t, fake{}, false)
	long := strings.Repeat("x", 3<<20)
	for name, body := range map[string]string{
		"a long value":       `[{"op": "` + long + `"}]`,
		"a long field":       `[{"` + long + `": 1}]`,
		"a long address":     `[{"op": "add-service", "service": {"address": "` + long + `"}}]`,
		"a long number":      `[{"op": "flush", "service": {"mark": 1` + strings.Repeat("0", 1<<20) + `}}]`,
		"a long protocol":    `[{"op": "add-service", "service": {"protocol": "` + long + `"}}]`,
		"too many changes":   "[" + strings.Repeat(`{"op":"flush"},`, maxChanges) + `{"op":"flush"}]`,
		"too large a body":   `[` + strings.Repeat(" ", maxBody) + `]`,
		"a very deep answer": strings.Repeat("[", 1<<20),
	} {
		status, text := raw(t, socket, "POST", "/v1/changes", strings.NewReader(body))
		if status != http.StatusBadRequest || len(text) > 2000 {
			t.Errorf("%s: status %d with %d bytes: %.300s", name, status, len(text), text)
		}
	}
	if status, text := raw(t, socket, "GET", "/v1/"+strings.Repeat("x", 50000), nil); status != http.StatusNotFound || len(text) > 2000 {
		t.Errorf("a long path: %d with %d bytes", status, len(text))
	}
	many := "[" + strings.Repeat(`{"op":"flush"},`, maxChanges-1) + `{"op":"flush"}]`
	if status, text := raw(t, socket, "POST", "/v1/changes", strings.NewReader(many)); status != http.StatusNoContent {
		t.Errorf("as many changes as there may be: %d %s", status, text)
	}
}

// More connections than there may be wait; those that end let others in.
func TestBoundedListener(t *testing.T) {
	inner, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ln := bound(inner, 2)
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	var clients []net.Conn
	for range 3 {
		c, err := net.Dial("unix", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	first := <-accepted
	second := <-accepted
	defer second.Close()
	select {
	case <-accepted:
		t.Error("a third connection was let in")
	case <-time.After(50 * time.Millisecond):
	}
	first.Close()
	first.Close() // which gives nothing back
	third := <-accepted
	defer third.Close()
	ln.Close()
	ln.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("it ended by %v", err)
	}
	_ = clients
}

// A client that sends nothing, or goes on sending slowly, does not keep its connection.
func TestTimes(t *testing.T) {
	s, err := Listen(Socket{Path: filepath.Join(t.TempDir(), "s"), Mode: 0o600}, fake{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if h := &s.http; h.ReadHeaderTimeout <= 0 || h.ReadTimeout <= 0 || h.IdleTimeout <= 0 || h.MaxHeaderBytes <= 0 {
		t.Errorf("a time is not bounded: %v", []any{h.ReadHeaderTimeout, h.ReadTimeout, h.IdleTimeout, h.MaxHeaderBytes})
	}
}
