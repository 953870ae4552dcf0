package lab

import (
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shunt/api"
	"shunt/forwarder/frame"
	"shunt/internal/netlab"
)

// seen is what a run showed, for the report.
type seen struct {
	claims      []claim
	trails      []trail
	connections []api.Connection
}

// claim is something that was proved, or not.
type claim struct {
	What  string
	Wrong []string
}

// trail is the way of a connection's SYN, and of the answer to it.
type trail struct {
	page  Page
	steps []step
}

// step is a frame at a hop.
type step struct {
	number int
	hop    hop
	record netlab.Record
}

//go:embed report.html
var reportText string

var reportPage = template.Must(template.New("report").Parse(reportText))

// The types below are what the page shows.
type reportData struct {
	Topology    string
	TwoArm      bool
	Made        string
	Good        bool
	Passed, All int
	Claims      []claim
	Pages       []Page
	Trails      []trailData
	Services    []serviceData
	Connections []api.Connection
	Drawing     drawing
	Files       string
	Config      string
}

type trailData struct {
	Title string
	Port  uint16
	Web   string
	Steps []stepData
	Hex   []hexData
}

type stepData struct {
	Number   int
	From, To string
	Back     bool
	Src, Dst string // MACs
	SrcNew   bool   // changed since the step before
	DstNew   bool
	Packet   string
	Flags    string
}

// hexData is a frame in hexadecimal: the MACs, and what no step changes.
type hexData struct {
	Title    string
	Dst, Src string
	SrcNew   bool // the director changed it
	Rest     string
}

type serviceData struct {
	api.Service
	Realservers []realserverData
}

type realserverData struct {
	api.Realserver
	Name  string
	Share int // percent of the service's flows
}

// report writes the page.
func (s *session) report(ctx context.Context) error {
	d := reportData{
		Topology: s.Topology, TwoArm: s.Topology == "two-arm", Made: time.Now().Format("2006-01-02 15:04 MST"), Good: s.proof.failed == 0,
		Passed: s.proof.passed, All: s.proof.passed + s.proof.failed, Claims: s.seen.claims, Pages: s.pages, Connections: s.seen.connections,
		Files: s.Captures,
	}
	if abs, err := filepath.Abs(s.Captures); err == nil {
		d.Files = abs
	}
	if b, err := os.ReadFile(s.director.ConfigPath); err == nil {
		d.Config = string(b)
	}
	web := "web1"
	for i := range s.seen.trails {
		t := s.trailData(&s.seen.trails[i])
		d.Trails = append(d.Trails, t)
		web = t.Web
	}
	d.Drawing = s.draw(web)
	services, err := s.director.Services(ctx)
	if err != nil {
		return err
	}
	for _, x := range services {
		d.Services = append(d.Services, s.serviceData(x))
	}
	f, err := os.Create(s.Report)
	if err != nil {
		return err
	}
	if err := reportPage.Execute(f, d); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", s.Report, err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	s.printf("\nReport of this run: %s\n", s.Report)
	return nil
}

// trailData finds out what changed from step to step.
func (s *session) trailData(t *trail) trailData {
	out := trailData{Title: "IPv4", Port: t.page.Port, Web: t.page.From}
	if t.page.V6 {
		out.Title = "IPv6"
	}
	for i := range t.steps {
		x := &t.steps[i]
		f := frame.Frame{Buf: x.record.Data}
		from, to, _ := strings.Cut(x.hop.label, "->")
		d := stepData{Number: x.number, From: strings.TrimSpace(from), To: strings.TrimSpace(to), Back: x.number > 4, Src: f.Src().String(), Dst: f.Dst().String()}
		if p := packet(&x.record); p != nil {
			d.Packet = fmt.Sprintf("%s → %s", netip.AddrPortFrom(p.Src.Netip(), p.SrcPort), netip.AddrPortFrom(p.Dst.Netip(), p.DstPort))
			d.Flags = flags(p.TCPFlags)
		}
		if n := len(out.Steps); n > 0 && out.Steps[n-1].Back == d.Back {
			d.SrcNew, d.DstNew = out.Steps[n-1].Src != d.Src, out.Steps[n-1].Dst != d.Dst
		}
		out.Steps = append(out.Steps, d)
		if x.number == 2 || x.number == 3 {
			title := "as received by the director"
			if x.number == 3 {
				title = "as sent by the director"
			}
			out.Hex = append(out.Hex, hexOf(title, x.record.Data))
		}
	}
	if n := len(out.Hex); n == 2 {
		changed := out.Hex[0].Src != out.Hex[1].Src
		out.Hex[0].SrcNew, out.Hex[1].SrcNew = changed, changed
	}
	return out
}

func hexOf(title string, b []byte) hexData {
	h := func(b []byte) string { return fmt.Sprintf("% x", b) }
	return hexData{Title: title, Dst: h(b[:6]), Src: h(b[6:12]), Rest: h(b[12:])}
}

func (s *session) serviceData(x api.Service) serviceData {
	out := serviceData{Service: x}
	for _, r := range x.Realservers {
		d := realserverData{Realserver: r, Name: "?"}
		for i, w := range s.net.Webs {
			if a := r.Address.Addr().String(); a == RIP(i+1) || a == RIP6(i+1) {
				d.Name = w.Name
			}
		}
		if x.Counts.Flows > 0 {
			d.Share = int(100 * r.Counts.Flows / x.Counts.Flows)
		}
		out.Realservers = append(out.Realservers, d)
	}
	return out
}
