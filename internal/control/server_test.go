package control

import (
	"context"
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

	"go.uber.org/goleak"

	"shunt/api"
)

type fake struct {
	conns   int
	applied chan Peer // who asked for changes
}

func (f fake) Status() api.Status {
	return api.Status{Flows: 7, Verdicts: map[string]uint64{"forwarded": 3}}
}
func (f fake) Overview() api.Overview  { return api.Overview{Workers: 3} }
func (f fake) Services() []api.Service { return nil }
func (f fake) Neighbours() []api.Neighbour {
	return []api.Neighbour{{Leg: "eth0", State: api.Resolved}}
}
func (f fake) Connections(fn func(api.Connection) bool) {
	for i := range f.conns {
		if !fn(api.Connection{Protocol: "TCP", Client: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), uint16(i))}) {
			return
		}
	}
}

func (f fake) Explain(packet string) (api.Explanation, error) {
	if packet == "" {
		return api.Explanation{}, errors.New("no packet")
	}
	return api.Explanation{Tuple: packet}, nil
}

func (f fake) Table() api.Table { return api.Table{Capacity: 9} }

func (f fake) Kill(chosen func(*api.Connection) bool) (n int) {
	f.Connections(func(c api.Connection) bool {
		if chosen(&c) {
			n++
		}
		return true
	})
	return n
}

func (f fake) Move(chosen func(*api.Connection) bool, to netip.Addr) (int, error) {
	if to != netip.MustParseAddr("10.0.0.1") {
		return 0, &api.Error{Code: api.CodeNoServer, Message: "no such destination"}
	}
	return f.Kill(chosen), nil
}

func (f fake) Drain(_ Peer, s api.Servers) ([]api.WeightChange, error) {
	return []api.WeightChange{{Service: s.Service, Realserver: s.Realserver, Old: 3}}, nil
}

func (f fake) Enable(_ Peer, s api.Servers) ([]api.WeightChange, error) {
	return nil, &api.Error{Code: api.CodeNoServer, Message: "no service has a realserver " + s.Realserver.String()}
}

func (f fake) Config() (api.RunningConfig, error) {
	return api.RunningConfig{YAML: "services: []\n"}, nil
}

func (f fake) RereadFile(context.Context, Peer) (api.Reload, error) {
	return api.Reload{}, &api.Error{Code: api.CodeReload, Message: "shunt.yaml:3:1: it is wrong"}
}

func (f fake) Apply(by Peer, changes []api.Change) error {
	if f.applied != nil {
		f.applied <- by
	}
	if len(changes) > 0 && changes[0].Op != api.OpFlush {
		return &api.Error{Code: api.CodeExists, Message: "service already exists", Change: 0}
	}
	return nil
}

func TestServer(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "run", "shunt.sock")
	s, err := Listen(Socket{Path: path, Mode: 0o600}, fake{conns: 3}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v; want mode 0600", info, err)
	}
	c, ctx := api.NewClient(path), context.Background()
	if o, err := c.Overview(ctx); err != nil || o.Workers != 3 {
		t.Errorf("overview %+v, %v", o, err)
	}
	if st, err := c.Status(ctx); err != nil || st.Flows != 7 || st.Verdicts["forwarded"] != 3 {
		t.Errorf("status %+v, %v", st, err)
	}
	if services, err := c.Services(ctx); err != nil || services == nil || len(services) != 0 {
		t.Errorf("services %v, %v", services, err)
	}
	var conns []api.Connection
	err = c.Connections(ctx, &api.Selection{}, func(x api.Connection) bool { conns = append(conns, x); return true })
	if err != nil || len(conns) != 3 || conns[2].Client.Port() != 2 {
		t.Errorf("connections %v, %v", conns, err)
	}
	for _, changes := range [][]api.Change{nil, {{Op: api.OpFlush}}} {
		if err := c.Apply(ctx, changes); err != nil {
			t.Errorf("changes %v: %v", changes, err)
		}
	}
	var refused *api.Error
	if err := c.Apply(ctx, []api.Change{{Op: api.OpAddService, Service: &api.VirtualService{Mark: 7}}}); !errors.As(err, &refused) || refused.Code != api.CodeExists {
		t.Errorf("a refused change: %v", err)
	}
	for body, want := range map[string]string{`{`: `"field":"changes"`, `[{"op": 7}]`: `"field":"changes[0].op"`, `[{"opp": "flush"}]`: `"field":"changes[0].opp"`,
		`[{"op": "flush"}] and more`: `"field":"changes"`, `[{"op": "add-server", "service": {"mark": 1}}]`: `"field":"changes[0].server"`} {
		h := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }, DisableKeepAlives: true}}
		resp, err := h.Post("http://shunt/v1/changes", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s %s", body, resp.Status, text)
		}
	}
	if x, err := c.Explain(ctx, "tcp a > b"); err != nil || x.Tuple != "tcp a > b" {
		t.Errorf("explanation %+v, %v", x, err)
	}
	if _, err := c.Explain(ctx, ""); err == nil || !strings.Contains(err.Error(), "no packet") {
		t.Errorf("an empty question gave %v", err)
	}
	if status, text := raw(t, path, "GET", "/v1/nothing", nil); status != http.StatusNotFound || !strings.Contains(text, "/v1/status") {
		t.Errorf("an unknown path gave %d %s, which does not say what there is", status, text)
	}
	if _, err := Listen(Socket{Path: path, Mode: 0o600}, fake{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second director on the same socket: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Status(ctx); err == nil || !strings.Contains(err.Error(), "no director answers") {
		t.Errorf("without a director: %v", err)
	}
}

func TestEmptyTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(Socket{Path: path, Mode: 0o660}, fake{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = api.NewClient(path).Connections(context.Background(), &api.Selection{}, func(c api.Connection) bool { t.Error(c); return true })
	if err != nil {
		t.Error(err)
	}
}

// TestStaleSocket: what a killed director left is replaced.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	s, err := Listen(Socket{Path: path, Mode: 0o660}, fake{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Socket{Path: path, Mode: 0o660}, fake{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is no socket was overwritten")
	}
	if _, err := Listen(Socket{Path: filepath.Join(t.TempDir(), "s"), Mode: 0o660, Group: "no-such-group-at-all"}, fake{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an unknown group was accepted")
	}
}

// Connections are chosen, ended and moved; what is asked wrongly is refused with the field.
func TestChosenConnections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(Socket{Path: path, Mode: 0o660}, fake{conns: 5}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, ctx := api.NewClient(path), context.Background()
	count := 0
	err = c.Connections(ctx, &api.Selection{Client: "192.0.2.7:3"}, func(api.Connection) bool { count++; return true })
	if err != nil || count != 1 {
		t.Errorf("%d connections, %v", count, err)
	}
	if n, err := c.Kill(ctx, api.Kill{Select: api.Selection{Client: "192.0.2.0/24"}}); n != 5 || err != nil {
		t.Errorf("%d ended, %v", n, err)
	}
	if n, err := c.Kill(ctx, api.Kill{All: true}); n != 5 || err != nil {
		t.Errorf("%d ended, %v", n, err)
	}
	if n, err := c.Move(ctx, api.Move{Select: api.Selection{Client: "192.0.2.7:4"}, To: netip.MustParseAddr("10.0.0.1")}); n != 1 || err != nil {
		t.Errorf("%d moved, %v", n, err)
	}
	var refused *api.Error
	if _, err := c.Move(ctx, api.Move{All: true, To: netip.MustParseAddr("10.0.0.2")}); !errors.As(err, &refused) || refused.Code != api.CodeNoServer {
		t.Errorf("moved to nobody: %v", err)
	}
	wrong := map[string]error{}
	_, wrong["select"] = c.Kill(ctx, api.Kill{})
	_, wrong["select.client"] = c.Kill(ctx, api.Kill{Select: api.Selection{Client: "x"}})
	_, wrong["to"] = c.Move(ctx, api.Move{All: true})
	_, wrong["packet"] = c.Explain(ctx, "")
	for field, err := range wrong {
		var f *api.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if status, text := raw(t, path, "GET", "/v1/connections?state2=x", nil); status != http.StatusBadRequest || !strings.Contains(text, `"field":"state2"`) {
		t.Errorf("an unknown parameter: %d %s", status, text)
	}
}

// A socket that is not for the user, and one that is not there, give errors that say what to do.
func TestUnreachable(t *testing.T) {
	_, err := api.NewClient(filepath.Join(t.TempDir(), "s")).Status(context.Background())
	if err == nil || !strings.Contains(err.Error(), "no director answers") {
		t.Error(err)
	}
	if got := api.SocketOf("web2"); got != "/run/shunt/web2.sock" {
		t.Errorf("the socket of web2 is %s", got)
	}
}
