package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
)

// VirtualService is a service as ipvsadm speaks of it: what identifies it, and its settings.
type VirtualService struct {
	Mark uint32 `json:"mark,omitempty"` // of a group, else 0; its matches are those of the configuration
	V6   bool   `json:"v6,omitempty"`   // family of a group

	Protocol string     `json:"protocol,omitempty"` // TCP, UDP, SCTP
	Address  netip.Addr `json:"address,omitzero"`
	Port     uint16     `json:"port,omitempty"` // 0 is all ports

	Scheduler   string  `json:"scheduler,omitempty"`
	Flags       uint8   `json:"flags,omitempty"`       // 1 fallback, 2 port, 4 flag-3
	Persistence float64 `json:"persistence,omitempty"` // seconds; 0 is none
	MaskBits    int     `json:"mask_bits,omitempty"`   // of persistence; 0 is a whole address
	OnePacket   bool    `json:"one_packet,omitempty"`
}

// VirtualServer is a destination as ipvsadm speaks of it.
type VirtualServer struct {
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port"`
	Weight  int64      `json:"weight"`
	Upper   int32      `json:"upper,omitempty"`
	Lower   int32      `json:"lower,omitempty"`
}

// Timeouts are those of ipvsadm --set, in seconds. In a change, 0 leaves one as it is.
type Timeouts struct {
	TCP    float64 `json:"tcp"`
	TCPFin float64 `json:"tcpfin"`
	UDP    float64 `json:"udp"`
}

// The operations of changes.
const (
	OpAddService    = "add-service"
	OpEditService   = "edit-service" // all settings replace those it had
	OpDeleteService = "delete-service"
	OpFlush         = "flush"
	OpAddServer     = "add-server" // at the head of the list
	OpEditServer    = "edit-server"
	OpDeleteServer  = "delete-server"
	OpSetTimeouts   = "set-timeouts"
	OpZero          = "zero" // counters of the service, or of all if there is none
)

// Change is one step of a transaction: POST /v1/changes takes a list of them and carries out all or none. What it changes
// lasts until the configuration is read again.
type Change struct {
	Op       string          `json:"op"`
	Service  *VirtualService `json:"service,omitempty"`
	Server   *VirtualServer  `json:"server,omitempty"`
	Timeouts *Timeouts       `json:"timeouts,omitempty"`
}

// TableService is a service with what the director knows of it.
type TableService struct {
	VirtualService
	Counts  Counts        `json:"counts"`
	Rates   Rates         `json:"rates"`
	Servers []TableServer `json:"servers"` // last added first
}

// TableServer is a destination with what the director knows of it.
type TableServer struct {
	VirtualServer
	Active     int32  `json:"active"`
	Inactive   int32  `json:"inactive"`
	Persistent int32  `json:"persistent"` // templates
	Counts     Counts `json:"counts"`
	Rates      Rates  `json:"rates"`
}

// Table is all that ipvsadm lists: GET /v1/table.
type Table struct {
	Capacity int            `json:"capacity"` // of the connection table
	Timeouts Timeouts       `json:"timeouts"`
	Services []TableService `json:"services"`
}

// The codes of errors.
const (
	CodeExists           = "exists"
	CodeNoService        = "no-service"
	CodeServerExists     = "server-exists"
	CodeNoServer         = "no-server"
	CodeUnknownScheduler = "unknown-scheduler"
	CodeUnknownMark      = "unknown-mark"
	CodeRange            = "range"
	CodeInvalid          = "invalid"
)

// Error is the answer to a change that cannot be made. The status is 409.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"error"`
	Change  int    `json:"change"` // which, counted from 0
}

func (e *Error) Error() string { return e.Message }

// Apply has the director make changes, all or none. The error is an *Error if the director refused one.
func (c *Client) Apply(ctx context.Context, changes []Change) error {
	body, err := json.Marshal(changes)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shunt/v1/changes", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("no director answers on %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	var refused Error
	if resp.StatusCode == http.StatusConflict && json.Unmarshal(text, &refused) == nil {
		return &refused
	}
	return fmt.Errorf("the director on %s: %s: %s", c.socket, resp.Status, bytes.TrimSpace(text))
}
