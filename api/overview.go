package api

import (
	"net/netip"
	"time"
)

// Overview is the status and everything else that a status page shows: GET /v1/overview. Each
// counter in it is read once.
type Overview struct {
	Status
	Now        time.Time   `json:"now"`
	Workers    int         `json:"workers"`
	Reload     Reload      `json:"reload"`
	Drift      Drift       `json:"drift"`
	Probes     Probes      `json:"probes"`
	Latency    Latency     `json:"latency"`
	Conflicts  []Conflict  `json:"conflicts"`
	Guard      *Guard      `json:"guard,omitempty"` // missing with guard: off
	Services   []Service   `json:"services"`
	Neighbours []Neighbour `json:"neighbours"`
}

// Reload is the result of the last reload of the configuration.
type Reload struct {
	Failures uint64    `json:"failures"`       // how often it was refused since the start
	Last     time.Time `json:"last,omitzero"`  // missing if it was never read again
	Taken    time.Time `json:"taken,omitzero"` // when it was last taken; missing if it never was
	Error    string    `json:"error,omitzero"` // of the last time; missing if it was taken
}

// Probes is the length of lookups in the connection table, measured on a sample of it for each
// request.
type Probes struct {
	Mean float64 `json:"mean"` // lines read to find an entry, 1 to 2; 0 if the part had no entries
	Full float64 `json:"full"` // part of the buckets that are full, 0 to 1
}

// Latency is a histogram of the time that sampled frames spent in the director, from the kernel's
// time stamp until they were sent.
type Latency struct {
	Bounds []float64 `json:"bounds"` // seconds, growing
	Counts []uint64  `json:"counts"` // frames up to each bound and above the one before; one more for what is above all
	Sum    float64   `json:"sum"`    // seconds
}

// Count is the number of frames sampled.
func (l *Latency) Count() (n uint64) {
	for _, c := range l.Counts {
		n += c
	}
	return n
}

// Quantile estimates the time in seconds below which the part q (0 to 1) of the frames stayed. It
// interpolates linearly within a bucket. The result is 0 without frames, and the last bound if the
// quantile lies above it.
func (l *Latency) Quantile(q float64) float64 {
	rank := q * float64(l.Count())
	if rank == 0 || len(l.Bounds) == 0 {
		return 0
	}
	var below, low float64
	for i, high := range l.Bounds {
		n := float64(l.Counts[i])
		if below+n >= rank {
			return low + (high-low)*(rank-below)/n
		}
		below, low = below+n, high
	}
	return low
}

// Since returns what was added to the histogram since old was read.
func (l *Latency) Since(old *Latency) Latency {
	if len(old.Counts) != len(l.Counts) {
		return *l
	}
	out := Latency{Bounds: l.Bounds, Counts: make([]uint64, len(l.Counts)), Sum: l.Sum - old.Sum}
	for i := range out.Counts {
		out.Counts[i] = l.Counts[i] - old.Counts[i]
	}
	return out
}

// conflictAge is how long a conflict is of interest after its last message.
const conflictAge = 10 * time.Minute

// RecentConflicts returns the conflicts with a message in the last ten minutes before Now, latest
// first.
func (o *Overview) RecentConflicts() (out []Conflict) {
	for _, c := range o.Conflicts {
		if o.Now.Sub(c.Last) <= conflictAge {
			out = append(out, c)
		}
	}
	return out
}

// Conflict is a host that claims a VIP by ARP or neighbour discovery.
type Conflict struct {
	VIP        netip.Addr `json:"vip"`
	MAC        string     `json:"mac"`
	Leg        string     `json:"leg"`
	Realserver netip.Addr `json:"realserver,omitzero"` // whose MAC it is, if one of ours
	Messages   uint64     `json:"messages"`
	First      time.Time  `json:"first"`
	Last       time.Time  `json:"last"`
}
