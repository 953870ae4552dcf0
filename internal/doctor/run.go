package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"shunt/api"
	"shunt/internal/config"
)

// Options say where to look.
type Options struct {
	Config string        // "" : the file of the running director
	Socket string        // of the running director
	Wait   time.Duration // for answers, twice
}

// Run looks at everything. The error is that of a doctor who could not look at all.
func Run(ctx context.Context, opt Options) (*Report, error) {
	status, asked := askDirector(ctx, opt.Socket)
	path := opt.Config
	if path == "" {
		if status == nil {
			return nil, fmt.Errorf("%w; name a configuration by -c to look without a director", asked)
		}
		path = status.Config
	}
	cfg, err := config.Load(path)
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
	r := &Report{Config: path, Findings: []Finding{}}
	if status != nil {
		r.Director = status.Version
	}
	f.checkHost(r)
	f.checkCounters(r)
	if f.capRaw {
		got, err := f.ask(ctx, opt.Wait)
		if err != nil {
			return nil, err
		}
		if err := f.probe(ctx, r, f.checkAnswers(r, got), opt.Wait); err != nil {
			return nil, err
		}
	}
	r.sort()
	return r, nil
}

// askDirector asks the running director how it is; nil if there is none.
func askDirector(ctx context.Context, socket string) (*api.Overview, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s := new(api.Overview)
	if err := api.NewClient(socket).Get(ctx, "/v1/overview", s); err != nil {
		return nil, err
	}
	if s.Config == "" {
		return nil, errors.New("the director does not say which file it goes by")
	}
	return s, nil
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
