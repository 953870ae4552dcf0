package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/readfile"
)

// A Config is a valid configuration. It is not changed after Load.
type Config struct {
	Path     string
	Digest   [sha256.Size]byte // of all files, and of what the environment had for them
	Log      Log
	Legs     []Leg // by frame.Leg
	Services []Service
	Settings forwarder.Settings
	ARP      ARP
	Confine  bool // give up the privileges that a running director does not need
	Guard    bool // install the nftables rule, where that is possible
	Flows    int  // connections that the tables of all workers hold together
	Workers  int
	Ring     Ring
	Control  Control
	HTTP     HTTP
	StateDir string // where connections are kept for the next start; "" : nowhere
	ProcDir  string // where the kernel's files about IPVS are imitated; "" : nowhere

	src     *source
	written *file                      // as it was read, without the services
	static  map[netip.Addr]frame.MAC   // MACs that the file gives
	placed  map[netip.Addr]*Realserver // those for which the file names a leg
}

// Log is what is logged, and how.
type Log struct {
	Level  slog.Level
	Format string // auto, text or json
}

// A Leg is one interface of the director.
type Leg struct {
	Name      string
	Interface string
	VLAN      uint16         // 0: untagged
	TPID      uint16         // of its tags: 0x8100 (802.1Q) or 0x88a8 (802.1ad)
	Shared    bool           // other legs have the same interface, each with another VLAN
	Public    bool           // VIPs are answered for and announced here
	Networks  []netip.Prefix // of the realservers behind it; empty: the interface's own
}

// A Service is a virtual service and its realservers, in the order in which they are added.
type Service struct {
	forwarder.Service
	Realservers []Realserver
	path        string
}

// A Realserver is one destination of a service.
type Realserver struct {
	Address      netip.Addr
	Weight       int32
	Upper, Lower int32
	Drain        time.Duration // how long its flows may go on when its weight is 0; 0: for as long as they like
	MAC          frame.MAC     // zero: to be resolved
	Leg          string        // "" : the one in whose networks it is
	path         string
}

// ARP has the times of ownership and resolution.
type ARP struct {
	Announce time.Duration // between gratuitous announcements; 0 is never again after the start
	Refresh  time.Duration // how long a realserver's MAC is believed before it is asked for again
	Watch    time.Duration // how often each leg is asked for the VIPs, to find others who answer; 0 is with announcements only
	Learn    bool          // believe gratuitous announcements of realservers
}

// Ring sizes the rings, one for each leg and worker.
type Ring struct {
	Slots, SlotSize int
	Busy            string
	Spin, Gather    time.Duration // in place of the preset's; 0: the preset's; negative: not at all
	CPUs            []int         // the processor of each worker; empty: any
}

// Control is the unix socket on which the director answers questions.
type Control struct {
	Socket string // "" : none
	Mode   fs.FileMode
	Group  string

	ReadOnly Socket // another socket, by which it is only asked
}

// Socket is a unix socket beside the control socket.
type Socket struct {
	Socket string // "" : none
	Mode   fs.FileMode
	Group  string
}

// HTTP is where the status page and the metrics are served.
type HTTP struct {
	Listen    string // host:port; "" : nowhere
	WebConfig string // file of TLS and users, as Prometheus's exporters have it; "" : none
}

// Defaults of what a file leaves out.
const (
	DefaultFlows    = 1_000_000
	MinFlows        = 1024
	MaxFlows        = 16_000_000
	MaxWorkers      = 64
	DefaultAnnounce = 60 * time.Second
	DefaultRefresh  = 30 * time.Second
	DefaultWatch    = 30 * time.Second
	DefaultState    = "/run/shunt/shunt.state" // if there is no socket to name it after
	DefaultSocket   = "/run/shunt/shunt.sock"
	DefaultPersist  = 360 * time.Second
)

// Load reads and validates the file at path, those that it includes, and the variables of the
// environment that they name. The error, if any, lists what is wrong in the order of the files;
// Errors takes it apart. When ctx ends, Load returns at once.
func Load(ctx context.Context, path string) (*Config, error) {
	type result struct {
		c   *Config
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, err := load(ctx, path)
		done <- result{c, err}
	}()
	select {
	case r := <-done:
		return r.c, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: reading was given up: %w", path, context.Cause(ctx))
	}
}

func load(ctx context.Context, path string) (*Config, error) {
	text, err := readfile.Stream(ctx, path, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such file; name one by -c", path)
	}
	if err != nil {
		return nil, err
	}
	s := &source{env: environment{lookup: os.LookupEnv}}
	s.include(s.open(path, text), len(text))
	return s.config(path)
}

// Parse validates a configuration at hand. name stands for the file in errors. It includes no
// files, and the environment is empty.
func Parse(name string, text []byte) (*Config, error) {
	s := &source{}
	if d := s.open(name, text); d.root != nil {
		for key := range pairs(d.root) {
			if key.Value == "include" {
				s.add(d, key, "include is for files only")
			}
		}
	}
	return s.config(name)
}

// config makes a Config of what was read.
func (s *source) config(path string) (*Config, error) {
	s.merge()
	v := &validator{src: s, failed: map[string]bool{}}
	f := s.decode(v.failed)
	if f == nil {
		return nil, s.problems.err()
	}
	for _, d := range s.docs {
		if d.root == nil && len(s.problems.list) > 0 { // what it has may be all that is missing
			v.failed["$.legs"], v.failed["$.services"] = true, true
		}
	}
	c := v.config(f)
	c.Path, c.src = path, s
	err := s.problems.err()
	if err != nil {
		return nil, err
	}
	c.Digest = s.digest()
	f.Services, f.Templates, f.Include = nil, nil, nil
	c.written = f
	s.forget()
	return c, nil
}

// VIPs lists the virtual addresses, each once, in the order of the file.
func (c *Config) VIPs() []netip.Addr {
	var out []netip.Addr
	seen := map[netip.Addr]bool{}
	for i := range c.Services {
		for _, m := range c.Services[i].Matches {
			if !seen[m.Addr] {
				seen[m.Addr] = true
				out = append(out, m.Addr)
			}
		}
	}
	return out
}
