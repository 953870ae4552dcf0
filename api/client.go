package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// A Client sends requests to a running director. Several goroutines may use it at the same time.
type Client struct {
	socket string
	http   http.Client
}

// SocketOf returns the path of a director's control socket. A name without slash and dot, such as
// "web2", stands for /run/shunt/web2.sock; anything else is a path already.
func SocketOf(name string) string {
	if name == "" || strings.ContainsAny(name, "/.") {
		return name
	}
	return "/run/shunt/" + name + ".sock"
}

// NewClient returns a client of the director that listens on socket: a path, or a name as SocketOf
// takes it. The client opens a connection for each request and none before.
func NewClient(socket string) *Client {
	socket = SocketOf(socket)
	c := &Client{socket: socket}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	return c
}

// Status returns the state of the director and its own counters. It costs little, also with many
// services.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status")
}

// Overview returns the status, all services, all neighbours and whatever else a status page shows.
// Each counter in it is read once.
func (c *Client) Overview(ctx context.Context) (Overview, error) {
	return get[Overview](ctx, c, "/v1/overview")
}

// Services returns all services and their realservers.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	return get[[]Service](ctx, c, "/v1/services")
}

// Neighbours returns the addresses of the realservers and what is known of their MACs.
func (c *Client) Neighbours(ctx context.Context) ([]Neighbour, error) {
	return get[[]Neighbour](ctx, c, "/v1/neighbours")
}

// Explain says where a packet would go, and why. It changes nothing. A packet is written as in
// "tcp 203.0.113.7:40000 > 192.168.10.100:80". The error is a *FieldError if the packet cannot be
// parsed.
func (c *Client) Explain(ctx context.Context, packet string) (Explanation, error) {
	return get[Explanation](ctx, c, "/v1/explain?"+url.Values{"packet": {packet}}.Encode())
}

// Table returns everything that ipvsadm lists.
func (c *Client) Table(ctx context.Context) (Table, error) {
	return get[Table](ctx, c, "/v1/table")
}

// Config returns the running configuration as a file.
func (c *Client) Config(ctx context.Context) (RunningConfig, error) {
	return get[RunningConfig](ctx, c, "/v1/config")
}

// OpenAPI returns the OpenAPI description of all endpoints, a JSON document.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, "/v1/openapi.json")
}

// Connections calls fn for each selected connection until fn returns false. It reads them one by
// one, because a table may have millions. The error is a *FieldError if a field of the selection is
// wrong.
func (c *Client) Connections(ctx context.Context, s *Selection, fn func(Connection) bool) error {
	path := "/v1/connections"
	if q := s.query(); len(q) > 0 {
		path += "?" + q.Encode()
	}
	resp, err := c.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.list(resp.Body, fn)
}

// list decodes a list one by one.
func (c *Client) list(r io.Reader, fn func(Connection) bool) error {
	dec := json.NewDecoder(r)
	_, err := dec.Token()
	for err == nil && dec.More() {
		var x Connection
		if err = dec.Decode(&x); err == nil && !fn(x) {
			return nil
		}
	}
	if err == nil {
		_, err = dec.Token() // that the list was not cut off
	}
	if err != nil {
		return fmt.Errorf("the director on %s: %w", c.socket, err)
	}
	return nil
}

// Kill ends connections and returns their number, including templates.
func (c *Client) Kill(ctx context.Context, k Kill) (int, error) {
	done, err := post[Done](ctx, c, "/v1/connections/kill", k)
	return done.Connections, err
}

// Move moves connections to another realserver of their service and returns their number.
func (c *Client) Move(ctx context.Context, m Move) (int, error) {
	done, err := post[Done](ctx, c, "/v1/connections/move", m)
	return done.Connections, err
}

// Apply makes all changes or none. If the director refuses one, the error is an *Error, whose field
// Change is the index of that change.
func (c *Client) Apply(ctx context.Context, changes []Change) error {
	if changes == nil {
		changes = []Change{} // null would be refused
	}
	return c.do(ctx, http.MethodPost, "/v1/changes", changes, nil)
}

// Drain gives the realserver weight 0: it gets no new connections.
func (c *Client) Drain(ctx context.Context, s Servers) ([]WeightChange, error) {
	return post[[]WeightChange](ctx, c, "/v1/realservers/drain", s)
}

// Enable gives the realserver the weight that it had before it was drained, else that of the
// configuration, else 1.
func (c *Client) Enable(ctx context.Context, s Servers) ([]WeightChange, error) {
	return post[[]WeightChange](ctx, c, "/v1/realservers/enable", s)
}

// Reload makes the director read its configuration file again, and waits until it is in force. If
// the file is refused, the error is an *Error with all faults of the file, and the old
// configuration stays in force.
func (c *Client) Reload(ctx context.Context) (Reload, error) {
	return post[Reload](ctx, c, "/v1/reload", nil)
}

func get[T any](ctx context.Context, c *Client, path string) (answer T, err error) {
	err = c.do(ctx, http.MethodGet, path, nil, &answer)
	return answer, err
}

func post[T any](ctx context.Context, c *Client, path string, body any) (answer T, err error) {
	err = c.do(ctx, http.MethodPost, path, body, &answer)
	return answer, err
}

// do asks, with a body unless it is nil, and decodes the answer into v unless that is nil.
func (c *Client) do(ctx context.Context, method, path string, body, v any) error {
	resp, err := c.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if v == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("the director on %s: %w", c.socket, err)
	}
	return nil
}

// ask returns the answer to a question if it is one. A refusal is an *Error or a *FieldError.
func (c *Client) ask(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://shunt"+path, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	var refused Error
	var field FieldError
	switch {
	case resp.StatusCode == http.StatusConflict && json.Unmarshal(text, &refused) == nil:
		return nil, &refused
	case resp.StatusCode == http.StatusBadRequest && json.Unmarshal(text, &field) == nil:
		return nil, &field
	}
	return nil, fmt.Errorf("the director on %s refused %s: %s: %s", c.socket, path, resp.Status, bytes.TrimSpace(text))
}

// unreachable says in other words why no director answers.
func (c *Client) unreachable(err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err // the URL says nothing that is not said here
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no director answers on %s: start one (shunt run), or name its socket (--socket, SHUNT_SOCKET): %w", c.socket, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the control socket %s is not for you: be root or in its group (control.group of the configuration): %w", c.socket, err)
	}
	return fmt.Errorf("no director answers on %s: %w", c.socket, err)
}
