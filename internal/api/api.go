// Package api is what a running director says of itself over its control socket: HTTP and JSON on a unix socket. The
// types are shared by the director, which answers, and by the commands and the laboratory, which ask.
//
//	GET /v1/status       Status
//	GET /v1/services     []Service
//	GET /v1/overview     Overview: both of these and more
//	GET /v1/connections  []Connection
//	GET /v1/neighbours   []Neighbour
//	GET /v1/explain?packet=tcp+192.0.2.7:40000+>+203.0.113.10:80   Explanation
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Status is the director at a glance.
type Status struct {
	Version  string            `json:"version"`
	Started  time.Time         `json:"started"`
	Config   string            `json:"config"`  // path of the configuration file
	Reloads  uint64            `json:"reloads"` // successful ones
	Flows    int               `json:"flows"`
	Capacity int               `json:"capacity"`
	Verdicts map[string]uint64 `json:"verdicts"` // frames by what became of them, names as in the report of a replay
	Counters map[string]uint64 `json:"counters"` // everything else that is counted: ring drops, ARP, conflicts
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

// NewClient returns a client of the director that listens on socket. Nothing is opened until the first question.
func NewClient(socket string) *Client {
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://shunt"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("no director answers on %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("the director on %s refused %s: %s: %s", c.socket, path, resp.Status, text)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}
