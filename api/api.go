// Package api is what a running director says of itself over its control socket: HTTP and JSON on a unix socket. The
// types are shared by the director, which answers, and by the commands and the laboratory, which ask; Client is for other
// programs, too.
//
//	GET /v1/status       Status
//	GET /v1/services     []Service
//	GET /v1/overview     Overview: both of these and more
//	GET /v1/connections  []Connection
//	GET /v1/neighbours   []Neighbour
//	GET /v1/explain?packet=tcp+192.0.2.7:40000+>+203.0.113.10:80   Explanation
//	POST /v1/changes     a list of Change, carried out as one transaction
//	POST /v1/connections/kill, /v1/connections/move
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
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	fastjson "github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// Status is the director at a glance.
type Status struct {
	Version  string            `json:"version"`
	Started  time.Time         `json:"started"`
	Config   string            `json:"config"`  // path of the configuration file
	Reloads  uint64            `json:"reloads"` // successful ones
	Changes  uint64            `json:"changes"` // by the control socket, since the configuration was read
	Flows    int               `json:"flows"`
	Capacity int               `json:"capacity"`
	Verdicts map[string]uint64 `json:"verdicts"` // frames by what became of them, names as in the report of a replay
	Counters map[string]uint64 `json:"counters"` // everything else that is counted: ring drops, ARP, conflicts
	Unkept   Unkept            `json:"unkept"`
	// Confinement is missing if the configuration has confine: off.
	Confinement *Confinement `json:"confinement,omitzero"`
}

// Unkept says what of a director will not be there after a restart though the configuration has a state_dir, and why. Empty
// texts are the usual state.
type Unkept struct {
	Connections string `json:"connections,omitzero"`
	Changes     string `json:"changes,omitzero"` // by the control socket
}

// Service is one virtual service and what it has done since it was made.
type Service struct {
	Name        string       `json:"name"`
	Protocol    string       `json:"protocol"`       // TCP, UDP, SCTP
	Address     string       `json:"address"`        // VIP:port
	Mark        uint32       `json:"mark,omitempty"` // by which changes name it, if it has one
	Scheduler   string       `json:"scheduler"`
	Counts      Counts       `json:"counts"`
	Rates       Rates        `json:"rates"`
	Realservers []Realserver `json:"realservers"` // in the order of the schedulers: last added first
}

// Counts are a service's or a realserver's totals.
type Counts struct {
	Flows   uint64 `json:"flows"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"` // of IP, as IPVS counts: no Ethernet header
}

// Realserver is one destination of a service.
type Realserver struct {
	Address   string `json:"address"` // RIP:port
	MAC       string `json:"mac,omitempty"`
	Leg       string `json:"leg,omitempty"`
	Weight    int32  `json:"weight"`
	Upper     int32  `json:"upper,omitempty"` // threshold; 0 is none
	Lower     int32  `json:"lower,omitempty"`
	Active    int32  `json:"active"`
	Inactive  int32  `json:"inactive"`
	Available bool   `json:"available"`         // neither overloaded nor unreachable
	Drained   bool   `json:"drained,omitempty"` // its time to drain is over
	Counts    Counts `json:"counts"`
	Rates     Rates  `json:"rates"`
}

// Connection is one entry of the connection table.
type Connection struct {
	Protocol   string         `json:"protocol"`
	State      string         `json:"state"` // as ipvsadm -Lnc prints it
	Client     netip.AddrPort `json:"client"`
	Virtual    netip.AddrPort `json:"virtual"`
	Realserver netip.AddrPort `json:"realserver"`
	Expires    float64        `json:"expires"` // seconds from now
	Packets    uint32         `json:"packets"`
	Template   bool           `json:"template,omitempty"`
}

// Neighbour is a realserver's address on its leg.
type Neighbour struct {
	Address netip.Addr `json:"address"`
	Leg     string     `json:"leg"`
	MAC     string     `json:"mac,omitempty"`
	State   string     `json:"state"` // incomplete, resolved, stale, failed, static

	Since    time.Time `json:"since,omitzero"`    // of the state
	Disputes uint64    `json:"disputes,omitzero"` // how often another host answered for the address too
	Disputed time.Time `json:"disputed,omitzero"` // the last time
	Rival    string    `json:"rival,omitempty"`   // the MAC of who did
}

// Explanation tells where a packet would go, and why.
type Explanation struct {
	Tuple      string      `json:"packet"`
	Verdict    string      `json:"verdict"`
	Meaning    string      `json:"meaning"`
	Decider    string      `json:"decider"` // flow, template, scheduler, or empty
	Service    string      `json:"service,omitempty"`
	Key        string      `json:"key,omitempty"` // of the service, as ipvsadm prints it
	Scheduler  string      `json:"scheduler,omitempty"`
	Realserver string      `json:"realserver,omitempty"`
	MAC        string      `json:"mac,omitempty"`
	State      string      `json:"state,omitempty"`   // of the connection or the template that decides
	Expires    float64     `json:"expires,omitempty"` // seconds that it has left
	Candidates []Candidate `json:"candidates"`        // in the order of the scheduler: last added first
}

// Candidate is a realserver of the service, and why it is chosen or not.
type Candidate struct {
	Realserver string `json:"realserver"`
	Weight     int32  `json:"weight"`
	Active     int32  `json:"active"`
	Inactive   int32  `json:"inactive"`
	Reason     string `json:"reason"`
	Chosen     bool   `json:"chosen"`
}

// Rates are averages of the last seconds, by the kernel's estimator.
type Rates struct {
	Flows   uint64 `json:"flows"`   // a second
	Packets uint64 `json:"packets"` // a second
	Bytes   uint64 `json:"bytes"`   // a second
}

// A Client asks a running director. It may be used by several goroutines.
type Client struct {
	socket string
	http   http.Client
}

// SocketOf is the path of a director's control socket: a name without slash and dot stands for the director of that name.
func SocketOf(name string) string {
	if name == "" || strings.ContainsAny(name, "/.") {
		return name
	}
	return "/run/shunt/" + name + ".sock"
}

// NewClient returns a client of the director that listens on socket, which is a path, or the name of a director: see
// SocketOf. Nothing is opened until the first question.
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

// Get asks for path, such as /v1/status, and decodes the answer into v.
func (c *Client) Get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, nil, v)
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
	return fastjson.UnmarshalRead(resp.Body, v, jsonv1.DefaultOptionsV1()) // a table may have a hundred thousand lines
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

// stream decodes a list one by one.
func (c *Client) stream(ctx context.Context, path string, fn func(Connection) bool) error {
	resp, err := c.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("the director on %s: %w", c.socket, err)
	}
	for dec.More() {
		var x Connection
		if err := dec.Decode(&x); err != nil {
			return fmt.Errorf("the director on %s: %w", c.socket, err)
		}
		if !fn(x) {
			return nil
		}
	}
	_, err = dec.Token() // that the list was not cut off
	return err
}
