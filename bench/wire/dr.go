package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gonum.org/v1/plot/plotter"

	"shunt/bench/report"
)

// What bench-dr measures, for each number of realservers.
const (
	drBytes   = "bytes through the director for each GiB downloaded"
	drRate    = "download, all connections together"
	drCPU     = "CPU of the whole machine for each GiB downloaded"
	drRequest = "CPU of shunt a request"

	drName  = "shunt, direct routing"
	natName = "nftables, NAT"
)

// DRRealservers are the numbers of realservers that are compared.
var DRRealservers = []int{2, 20, 200}

const (
	// drPage is the size of a page in bytes, drParallel how many are fetched at a time.
	drPage     = 1 << 20
	drParallel = 8
)

// RunDR downloads large pages through one director, by direct routing and by NAT.
func RunDR(ctx context.Context, opt Options) (*report.Report, error) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return nil, errors.New("nft is not installed: apt-get install nftables")
	}
	r := &report.Report{Title: "Why direct routing", Time: time.Now(), Rounds: opt.Rounds}
	for round := range opt.Rounds {
		for _, n := range DRRealservers {
			for i := range 2 {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				direct := (i+round)%2 == 0
				fmt.Fprintf(opt.Log, "round %d of %d: %d realservers, direct routing: %v\n", round+1, opt.Rounds, n, direct)
				if err := measureDR(ctx, opt, r, nft, n, direct); err != nil {
					return nil, fmt.Errorf("%d realservers, direct routing %v: %w", n, direct, err)
				}
			}
		}
	}
	r.Machine = report.ThisMachine()
	drGoals(r)
	return r, nil
}

func label(name string, n int) string { return fmt.Sprintf("%s, %d realservers", name, n) }

func measureDR(ctx context.Context, opt Options, r *report.Report, nft string, n int, direct bool) error {
	dir, err := os.MkdirTemp("", "shunt-dr-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := newDRLab(n, direct, drPage)
	if err != nil {
		return err
	}
	defer l.close()
	name := natName
	pid := 0
	if direct {
		name = drName
		config := filepath.Join(dir, "shunt.yaml")
		if err := os.WriteFile(config, []byte(drConfig(filepath.Join(dir, "shunt.sock"), n)), 0o644); err != nil {
			return err
		}
		cmd := exec.Command(opt.Shunt, "run", "-c", config)
		out := &tail{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := l.director.Start(cmd); err != nil {
			return err
		}
		defer func() {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
		}()
		pid = cmd.Process.Pid
		time.Sleep(time.Second)
	} else if err := l.nat(nft); err != nil {
		return err
	}
	time.Sleep(settleTime)
	if _, err := l.download(ctx, 500*time.Millisecond); err != nil { // every cache is warm
		return err
	}
	before, err := l.bytes()
	if err != nil {
		return err
	}
	busy, used := machineTime(), 0.0
	if pid != 0 {
		if used, err = cpuTime(pid); err != nil {
			return err
		}
	}
	start := time.Now()
	pages, err := l.download(ctx, opt.Window)
	if err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	gib := float64(pages) * drPage / (1 << 30)
	after, err := l.bytes()
	if err != nil {
		return err
	}
	r.Add(drBytes, "MiB", label(name, n), float64(after-before)/(1<<20)/gib)
	r.Add(drRate, "Gbit/s", label(name, n), float64(pages)*drPage*8/took/1e9)
	r.Add(drCPU, "s", label(name, n), (machineTime()-busy)/gib)
	if pid != 0 {
		now, err := cpuTime(pid)
		if err != nil {
			return err
		}
		r.Add(drRequest, "us", label(name, n), (now-used)*1e6/float64(pages))
	}
	return nil
}

// bytes is what has passed the director's interfaces so far, in both directions.
func (l *drLab) bytes() (uint64, error) {
	sum := uint64(0)
	for _, dev := range []string{"eth0", "eth1"} {
		link, err := l.director.Netlink().LinkByName(dev)
		if err != nil {
			return 0, err
		}
		sum += link.Attrs().Statistics.RxBytes + link.Attrs().Statistics.TxBytes
	}
	return sum, nil
}

// download fetches pages for d, each over a connection of its own. It returns how many came; none
// may fail.
func (l *drLab) download(ctx context.Context, d time.Duration) (int64, error) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return l.client.Dial(&net.Dialer{Timeout: dialPatience}, "tcp", vip+":80")
		},
	}}
	var n atomic.Int64
	var mu sync.Mutex
	var wrong error
	var wg sync.WaitGroup
	start := time.Now()
	for range drParallel {
		wg.Go(func() {
			for time.Since(start) < d {
				if err := fetchPage(ctx, client); err != nil {
					mu.Lock()
					wrong = errors.Join(wrong, err)
					mu.Unlock()
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return n.Load(), wrong
}

func fetchPage(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+vip+"/", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if got, err := io.Copy(io.Discard, resp.Body); err != nil || got != drPage {
		return fmt.Errorf("a page of %d bytes: %v", got, err)
	}
	return nil
}

// machineTime is what all processors have worked so far, in seconds: neither idle nor waiting.
func machineTime() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return busyTime(string(b))
}

func busyTime(stat string) float64 {
	line, _, _ := strings.Cut(stat, "\n")
	sum := 0.0
	for i, f := range strings.Fields(line) {
		var v float64
		if i == 0 || i == 4 || i == 5 || i > 8 { // the word cpu, idle, iowait, and what guests had, which user time has too
			continue
		}
		if _, err := fmt.Sscan(f, &v); err == nil {
			sum += v
		}
	}
	return sum / 100
}

// drGoals compares.
func drGoals(r *report.Report) {
	least, most := 0.0, 0.0
	for i, n := range DRRealservers {
		v, ok := r.Median(drRequest, label(drName, n))
		if !ok {
			continue
		}
		if i == 0 || v < least {
			least = v
		}
		most = max(most, v)
	}
	g := report.Goal{What: drRequest + ": the most of 2, 20 and 200 realservers / the least", Bound: 1.1, Unknown: least == 0, Runs: r.Rounds}
	if least > 0 {
		g.Value = most / least
	}
	r.Goals = append(r.Goals, g)
}

// DRPlots draws what is measured over the number of realservers.
func DRPlots(r *report.Report, dir string) error {
	for _, m := range []struct{ measure, unit, file string }{
		{drBytes, "MiB", "dr-bytes"}, {drRate, "Gbit/s", "dr-throughput"}, {drCPU, "s", "dr-cpu"}, {drRequest, "us", "dr-request"},
	} {
		var lines []report.Line
		for _, name := range []string{drName, natName} {
			line := report.Line{Name: name}
			for _, n := range DRRealservers {
				if v, ok := r.Median(m.measure, label(name, n)); ok {
					line.XY = append(line.XY, plotter.XY{X: float64(n), Y: v})
				}
			}
			if len(line.XY) > 0 {
				lines = append(lines, line)
			}
		}
		if err := report.Lines(dir, m.file, m.measure, "realservers", m.unit, lines); err != nil {
			return err
		}
	}
	return nil
}
