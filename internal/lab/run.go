package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shunt/api"
	"shunt/internal/netlab"
)

// Options of a lab.
type Options struct {
	Topology string
	Name     string // "" : that of the topology; a number comes behind it if another one of the name stands
	Family   string // "4", "6" or "both"; "" is "4"
	Keep     bool   // leave it standing until ctx is done
	Captures string // folder for the captures; "" : lab-captures/NAME, in the working directory
	Fetches  int
	Out      io.Writer
	Binary   string // the shunt that is to be the director
	Report   string // file for a page about the run; "" : none
}

// ErrFailed means that the lab ran, but a check failed.
var ErrFailed = errors.New("the lab failed")

// session is one run of the laboratory.
type session struct {
	Options
	net      *Network
	dir      string // of the run: configuration and sockets
	captures map[string]*netlab.Capture
	director *Director
	socket   string // of the director
	pages    []Page
	proof    proof
	seen     seen // for the report
}

// settle is how long the captures are given to see the end of the last connection, and patience how
// long they may take to see all connections pass every wire, on a machine with more to do than it
// can.
const (
	settle   = 300 * time.Millisecond
	patience = 20 * time.Second
)

// Run creates the lab, runs it and removes it. Only the captures, the director's log and the report
// remain.
func Run(ctx context.Context, opt Options) error {
	dir, name, err := newRunDir(cmp.Or(opt.Name, opt.Topology))
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if opt.Name = name; opt.Captures == "" {
		opt.Captures = filepath.Join("lab-captures", opt.Name)
	}
	s := &session{Options: opt, dir: dir}
	if s.net, err = Build(opt.Topology, 2); err != nil {
		return err
	}
	defer s.net.Close()
	if opt.Family == "6" || opt.Family == "both" {
		if err := s.net.EnableIPv6(); err != nil {
			return err
		}
	}
	if s.captures, err = s.net.Capture(opt.Captures); err != nil {
		return err
	}
	for _, w := range s.net.Webs {
		stop, err := Serve(w, nil)
		if err != nil {
			return err
		}
		defer stop()
	}
	s.drawing()
	s.socket = filepath.Join(dir, "shunt.sock")
	logFile, err := os.Create(filepath.Join(opt.Captures, "director.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	s.director, err = s.net.Start(opt.Binary, dir, s.net.Config("rr", s.socket, "log: {format: text}\narp: {refresh: 2s}\n", "tcp/80"), s.socket, logFile)
	if err != nil {
		return err
	}
	s.printf("The director runs:  shunt run -c %s\n\n", s.director.ConfigPath)
	if err := s.fetch(ctx); err != nil {
		s.printf("\n%v\nThe director's log:\n%s", err, s.director.Log())
		return errors.Join(ErrFailed, err, s.director.Stop())
	}
	if err := s.table(ctx); err != nil {
		return errors.Join(err, s.director.Stop())
	}
	s.check(s.settled())
	s.verdict()
	if opt.Report != "" {
		if err := s.report(ctx); err != nil {
			return errors.Join(err, s.director.Stop())
		}
	}
	if opt.Keep {
		s.keep(ctx)
	}
	if err := s.director.Stop(); err != nil {
		return err
	}
	if s.proof.failed > 0 {
		return ErrFailed
	}
	return nil
}

func (s *session) printf(format string, args ...any) { fmt.Fprintf(s.Out, format, args...) }

// records is what the ports have seen so far.
func (s *session) records() captured {
	c := captured{}
	for name, p := range s.captures {
		c[name] = p.Records()
	}
	return c
}

// settled waits until what the ports have seen is whole, or for as long as it may; then what is
// missing is a finding.
func (s *session) settled() captured {
	for end := time.Now().Add(patience); ; {
		time.Sleep(settle)
		c := s.records()
		whole := !slices.ContainsFunc(s.pages, func(p Page) bool {
			r := s.net.follow(c, p, MAC(s.number(p.From)))
			_, back := s.net.ways(p.From)
			return r.frames == 0 || len(r.wrong) > 0 || slices.ContainsFunc(back, func(h hop) bool {
				return len(c.of(h, reply(p.vip(), p.Port))) == 0
			})
		})
		if whole || time.Now().After(end) {
			return c
		}
	}
}

// drawing shows who is where.
func (s *session) drawing() {
	if s.Topology == "one-arm" {
		s.printf("shunt lab: direct routing with one arm\n\n")
		s.row("client, also the gateway", "director", "web1", "web2")
		s.row(ClientIP+" (public)", "VIP "+VIP, "RIP "+RIP(1), "RIP "+RIP(2))
		s.row(GatewayIP+" (private)", "DIP "+DIP, "VIP on lo", "VIP on lo")
		if s.net.V6 {
			s.row(ClientIP6, "VIP "+VIP6, "RIP "+RIP6(1), "RIP "+RIP6(2))
			s.row(GatewayIP6, "DIP "+DIP6, "VIP on lo", "VIP on lo")
		}
		s.row(clientMAC, DirectorMAC, MAC(1), MAC(2))
		s.row("      |", "      |", "      |", "      |")
		s.printf("   ======+========== learning switch ===+=========================+=========================+======\n\n")
		return
	}
	s.printf("shunt lab: direct routing with two arms\n\n")
	s.row("client", "director", "router", "")
	s.row(ClientIP, "VIP "+VIP, RouterIP, "")
	if s.net.V6 {
		s.row(ClientIP6, "VIP "+VIP6, RouterIP6, "")
	}
	s.row(clientMAC, DirectorMAC, "", "")
	s.row("      |", "      |", "      |", "")
	s.printf("   ======+=========== public switch ====+=========================+======\n")
	s.row("", "      |", "      |", "")
	s.row("", "director", "router", "web1, web2")
	s.row("", "DIP "+DIP, GatewayIP+" (gateway)", "RIPs "+RIP(1)+", .12")
	if s.net.V6 {
		s.row("", "DIP "+DIP6, GatewayIP6, "RIPs "+RIP6(1)+", ::12")
	}
	s.row("", privateMAC, "", "VIPs on lo")
	s.row("", "      |", "      |", "      |")
	s.printf("                             ===========+==== private switch =====+=========================+======\n\n")
}

// row prints one line of the drawing.
func (s *session) row(a, b, c, d string) {
	s.printf("%s\n", strings.TrimRight(fmt.Sprintf("   %-30s %-25s %-25s %s", a, b, c, d), " "))
}

// families lists what is shown: false is IPv4, true is IPv6.
func (s *session) families() []bool {
	switch s.Family {
	case "6":
		return []bool{true}
	case "both":
		return []bool{false, true}
	}
	return []bool{false}
}

// fetch gets pages, one connection each.
func (s *session) fetch(ctx context.Context) error {
	browser := Browser(s.net.Client)
	for _, v6 := range s.families() {
		url := "http://" + VIP + "/"
		if v6 {
			url = "http://[" + VIP6 + "]/"
		}
		s.printf("The client fetches %s, each time over a new connection:\n ", url)
		for i := range s.Fetches {
			p, err := Fetch(ctx, browser, url)
			if err != nil {
				return fmt.Errorf("fetch %d of %d: %w", i+1, s.Fetches, err)
			}
			p.V6 = v6
			s.pages = append(s.pages, p)
			s.printf("  %s", p.From)
		}
		s.printf("\n\n")
	}
	return nil
}

// table shows the connection table, as ipvsadm -Lnc would.
func (s *session) table(ctx context.Context) error {
	conns, err := s.director.Connections(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(conns, func(a, b api.Connection) int { return a.Client.Compare(b.Client) })
	s.seen.connections = conns
	s.printf("The director's connection table:\n  pro expire state       source             virtual            destination\n")
	for _, c := range conns {
		s.printf("  %-3s %02d:%02d  %-11s %-18s %-18s %s\n", c.Protocol, int(c.Expires)/60, int(c.Expires)%60, c.State, c.Client, c.Virtual, c.Realserver)
	}
	s.printf("\n")
	s.proof.table(s, conns)
	return nil
}

// verdict says what was proved, and where to see it.
func (s *session) verdict() {
	s.printf("\nCaptures of every hop (for tcpdump and Wireshark) and the director's log:\n")
	files := make([]string, 0, len(s.captures))
	for name := range s.captures {
		files = append(files, name+".pcap")
	}
	slices.Sort(files)
	abs, err := filepath.Abs(s.Captures)
	if err != nil {
		abs = s.Captures
	}
	s.printf("  %s: %s, director.log\n\n", abs, strings.Join(files, " "))
	if s.proof.failed > 0 {
		s.printf("VERDICT: FAILED: %d of %d checks\n", s.proof.failed, s.proof.failed+s.proof.passed)
		return
	}
	s.printf("VERDICT: direct routing works: %d pages, %d checks passed\n", len(s.pages), s.proof.passed)
}

// environment lets commands on the laboratory's hosts find the director.
func (s *session) environment() []string {
	return []string{NameVariable + "=" + s.Name, "SHUNT_SOCKET=" + s.socket, "SHUNT_LAB_CONFIG=" + s.director.ConfigPath, fmt.Sprintf("SHUNT_LAB_PID=%d", s.director.cmd.Process.Pid)}
}

// keep leaves everything standing until ctx is done, and serves `shunt lab exec`.
func (s *session) keep(ctx context.Context) {
	names := slices.Sorted(maps.Keys(s.net.Hosts))
	err := writeCard(s.dir, Card{Name: s.Name, PID: os.Getpid(), Hosts: names})
	var stop func()
	if err == nil {
		stop, err = serveExec(s.net, execPlace{s.Binary, s.dir, s.environment()})
	}
	if err != nil {
		s.printf("shunt lab exec does not work: %v\n", err)
	} else {
		defer stop()
	}
	s.printf("\nThe lab %s runs until Ctrl-C. In another terminal (add --lab %s if several labs are running):\n"+
		"  shunt lab exec client shunt lab get http://%s/\n  shunt lab exec director cat %s\n  shunt lab exec HOST COMMAND...   with HOST one of %s\n",
		s.Name, s.Name, VIP, s.director.ConfigPath, strings.Join(names, ", "))
	<-ctx.Done()
	s.printf("\nStopping the lab.\n")
}
