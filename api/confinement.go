package api

// Confinement lists the privileges that the director has left after its start.
type Confinement struct {
	Capabilities []string `json:"capabilities"` // those that are left, as "cap_net_raw"
	NoNewPrivs   bool     `json:"no_new_privs"` // programs that it executes get no more than it has
	Landlock     int      `json:"landlock"`     // version of the restriction to its own files; 0 is none
	Seccomp      bool     `json:"seccomp"`      // only the system calls that it needs are left
	// Missing lists what could not be dropped, each with the reason.
	Missing []string `json:"missing,omitzero"`
}
