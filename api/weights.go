package api

import (
	"context"
	"net/http"
	"net/netip"
)

// Servers chooses realservers to be drained or enabled: POST /v1/realservers/drain, POST
// /v1/realservers/enable.
type Servers struct {
	Realserver netip.Addr `json:"realserver"`
	Service    string     `json:"service,omitempty"` // a name, a VIP or VIP:port; empty: all services that have the realserver
}

// A WeightChange is what became of a realserver of one service. Old and New are the same if it was
// so already.
type WeightChange struct {
	Service    string     `json:"service"`
	Realserver netip.Addr `json:"realserver"`
	Old        int32      `json:"old"`
	New        int32      `json:"new"`
}

// Drain gives the realserver weight 0: it gets no new connections.
func (c *Client) Drain(ctx context.Context, s Servers) (out []WeightChange, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/realservers/drain", s, &out)
	return out, err
}

// Enable gives the realserver the weight that it had before it was drained, else that of the
// configuration, else 1.
func (c *Client) Enable(ctx context.Context, s Servers) (out []WeightChange, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/realservers/enable", s, &out)
	return out, err
}

// Reload has the director read its file again, and waits until it is in force. The error is an
// *Error with all that is wrong if the file was refused; the old configuration stays in force then.
func (c *Client) Reload(ctx context.Context) (r Reload, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/reload", nil, &r)
	return r, err
}

// Config returns the running configuration as a file.
func (c *Client) Config(ctx context.Context) (r RunningConfig, err error) {
	err = c.Get(ctx, "/v1/config", &r)
	return r, err
}

// RunningConfig is the running configuration: GET /v1/config.
type RunningConfig struct {
	File string `json:"file"` // that was read
	YAML string `json:"yaml"` // a file that means what runs: that one, and what was changed since
}
