package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"shunt/api"
	"shunt/internal/config"
)

// Options of the doctor.
type Options struct {
	Config string        // "" : the file of the running director
	Socket string        // of the running director
	Wait   time.Duration // for answers, in each of two or three rounds
	From   string        // the address from which realservers are pinged as by a client; "" : one is chosen; "none": they are not
}

// Check validates the options.
func (o *Options) Check() error {
	if o.Wait < 30*time.Millisecond || o.Wait > time.Minute {
		return fmt.Errorf("--wait %s: write 30ms to 1m", o.Wait)
	}
	_, err := o.from()
	return err
}

// from is the address that From names; invalid if it names none.
func (o *Options) from() (netip.Addr, error) {
	if o.From == "" || o.From == fromNone {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(o.From)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is4In6() {
		return a, fmt.Errorf("--from %q: write an IP address that the gateway routes to this host, or none", o.From)
	}
	return a, nil
}

// fromNone is the value of --from that names no address.
const fromNone = "none"

// Run performs all checks. The error means that no check could run.
func Run(ctx context.Context, opt Options) (*Report, error) {
	status, asked := askDirector(ctx, opt.Socket)
	path := opt.Config
	if path == "" {
		if status == nil {
			return nil, fmt.Errorf("%w; name a configuration by -c to check without a director", asked)
		}
		path = status.Config
	}
	cfg, err := config.Load(ctx, path)
	if err != nil {
		return nil, err
	}
	if opt.Config != "" && status != nil && !sameFile(opt.Config, status.Config) {
		status = nil // that director has nothing to do with this file
	}
	f, err := gather(cfg, status)
	if err != nil {
		return nil, err
	}
	if err := f.setFrom(&opt); err != nil {
		return nil, err
	}
	r := &Report{Config: path, Findings: []Finding{}, Unknown: []Unknown{}, Well: []string{}}
	if status != nil {
		r.Director = status.Version
	}
	f.checkHost(r)
	f.checkCounters(r)
	if f.table, err = f.readTable(ctx, opt.Socket); err != nil {
		r.unknown("table", "the number of half-open connections", err.Error(), "run the doctor again")
	}
	f.checkTable(r)
	if f.capRaw {
		err = f.askAndProbe(ctx, r, opt.Wait)
	} else {
		r.unknown("probes", "replies of the realservers, and ARP replies for the VIPs", "this process lacks CAP_NET_RAW", "run it as root")
	}
	if err != nil {
		return nil, err
	}
	r.sort()
	r.Result = r.result()
	return r, nil
}

// askAndProbe looks at the network: who answers for which address, and what the realservers do with
// frames to the VIPs.
func (f *facts) askAndProbe(ctx context.Context, r *Report, wait time.Duration) error {
	f.maybe = f.candidates()
	e, err := f.listen()
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.ask(ctx, wait, f.targets); err != nil {
		return err
	}
	return f.probe(ctx, r, e, f.checkAnswers(r, e), wait)
}

// askDirector asks the running director how it is; nil if there is none.
func askDirector(ctx context.Context, socket string) (*api.Overview, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := api.NewClient(socket).Overview(ctx)
	if err != nil {
		return nil, err
	}
	if s.Config == "" {
		return nil, errors.New("the director does not report its configuration file")
	}
	return &s, nil
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
