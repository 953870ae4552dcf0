package api

import "net/netip"

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

// RunningConfig is the running configuration: GET /v1/config.
type RunningConfig struct {
	File string `json:"file"` // that was read
	YAML string `json:"yaml"` // a file that means what runs: that one, and what was changed since
}
