package api

import (
	"net/netip"
	"time"
)

// Guard is the set of nftables rules that keep frames to the VIPs from the host's kernel.
type Guard struct {
	Tables   []string     `json:"tables"`            // of the family netdev, one for each interface
	Error    string       `json:"error,omitzero"`    // why there is no guard at all
	Missing  string       `json:"missing,omitzero"`  // what others took away of the rules, and is not yet put back
	Restored uint64       `json:"restored"`          // how often rules were put back that others had taken away
	Last     time.Time    `json:"last,omitzero"`     // when that was
	By       string       `json:"by,omitzero"`       // the process that took them away then, if the kernel told
	Exposed  []netip.Addr `json:"exposed,omitempty"` // VIPs that are not guarded, since they are addresses of the host
}
