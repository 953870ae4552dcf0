package ipvsadm

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"shunt/api"
)

// event is one line of a trace (testdata/golden/README.md). Which fields are set depends on Op.
type event struct {
	T       float64
	Op      string
	Section string // reset_director

	Cmd, Stdin, Out, Err, NS string // cmd
	RC                       int

	Label   string // snap
	Outputs map[string]string

	Text string // note
}

type tally struct {
	commands, outputs, files int // compared: command lines, outputs of snap, files of /proc
	excused                  int
	failed                   int
}

// TestGolden runs every command line of ipvsadm in the traces against a kernel of which only the
// traffic is told, by the output to come. Standard output, standard error and the status are
// compared to the byte, and so are all listings of snap. What differs is excused by goldenExcuses,
// or the test fails; an excuse that is needed more or less often than it says fails too.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("../../testdata/golden/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	var total tally
	used := map[int]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var trace struct{ Events []event }
		if err := json.Unmarshal(text, &trace); err != nil {
			t.Fatal(err)
		}
		r := &replay{t: t, scenario: filepath.Base(file)[:2], kernel: newKernel(), used: used, total: &total}
		for i := range trace.Events {
			r.event(&trace.Events[i])
		}
	}
	t.Logf("%d command lines, %d outputs of snap and %d files of /proc compared, %d excused, %d failed",
		total.commands, total.outputs, total.files, total.excused, total.failed)
	for i, x := range goldenExcuses {
		t.Logf("excused %2d: %s: %q: %s", used[i], x.scenario, x.text, x.reason)
		if used[i] != x.n {
			t.Errorf("excuse %q of %s was needed %d times, not %d", x.text, x.scenario, used[i], x.n)
		}
	}
}

// replay is a scenario in progress.
type replay struct {
	t        *testing.T
	scenario string
	section  string
	kernel   *kernel
	refused  []string // realservers that the kernel took with -m or -i
	used     map[int]int
	total    *tally
}

func (r *replay) event(e *event) {
	switch e.Op {
	case "reset_director":
		twos := slices.Contains(r.kernel.schedulers, "twos")
		r.kernel, r.refused, r.section = newKernel(), nil, e.Section
		if twos { // a module stays
			r.kernel.schedulers = append(r.kernel.schedulers, "twos")
		}
	case "cmd":
		if e.NS == "" {
			r.command(e)
		}
	case "snap":
		r.snap(e)
	case "note":
		r.files(e)
	}
}

func (r *replay) command(e *event) {
	args := strings.Fields(e.Cmd)
	r.kernel.denied = args[0] == "setpriv"
	if r.kernel.denied {
		args = args[slices.Index(args, "ipvsadm"):]
	}
	switch args[0] {
	case "insmod":
		r.kernel.schedulers = append(r.kernel.schedulers, "twos")
	case "ipvsadm":
		r.run(e, args[1:], e.Stdin)
	case "ipvsadm-save": // a script that does this
		r.run(e, append([]string{"-S"}, args[1:]...), "")
	case "ipvsadm-restore": // and one that does these two
		RunPlain([]string{"-C"}, nil, os.Stdout, os.Stderr, r.kernel, knownNames{})
		r.run(e, []string{"-R"}, e.Stdin)
	}
}

// run runs a command line and compares all that it says.
func (r *replay) run(e *event, args []string, stdin string) {
	inject(r.kernel, strings.Join(args, " "), e.Out)
	var out, errs strings.Builder
	rc := RunPlain(args, strings.NewReader(stdin), &out, &errs, r.kernel, knownNames{})
	if out.String() == e.Out && errs.String() == e.Err && rc == e.RC {
		r.total.commands++
		return
	}
	if i := slices.Index(args, "-r"); i > 0 && e.RC == 0 && args[0] == "-a" {
		r.refused = append(r.refused, args[i+1])
	}
	r.differs(e.Cmd, fmt.Sprintf("%q, %q, status %d", out.String(), errs.String(), rc), fmt.Sprintf("%q, %q, status %d", e.Out, e.Err, e.RC),
		rc == e.RC && errs.String() == e.Err && out.String() == r.without(e.Out))
}

// without leaves the lines of refused realservers out of a listing.
func (r *replay) without(listing string) string {
	var kept []string
	for _, line := range strings.SplitAfter(listing, "\n") {
		if !slices.ContainsFunc(r.refused, func(name string) bool {
			return strings.Contains(line, "-> "+name+" ") || strings.Contains(line, "-> "+name+":") ||
				strings.Contains(line, "-r "+name+" ") || strings.Contains(line, "-r "+name+":")
		}) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// silent is a listing of counters with 0 for all that came out: the kernel counts the ICMP errors
// that its own host sends.
func silent(listing string) string {
	var out strings.Builder
	for line := range strings.Lines(listing) {
		if len(line) > 78 && !strings.Contains(line, "Out") {
			line = line[:51] + "        0" + line[60:69] + "        0" + line[78:]
		}
		out.WriteString(line)
	}
	return out.String()
}

// differs looks for an excuse.
func (r *replay) differs(what, got, want string, butForRefused bool) {
	for i, x := range goldenExcuses {
		if x.scenario == r.scenario && strings.Contains(what, x.text) && x.listing == butForRefused {
			r.used[i]++
			r.total.excused++
			return
		}
	}
	r.total.failed++
	r.t.Errorf("%s, %s: %s:\n got %s\nwant %s", r.scenario, r.section, what, got, want)
}

func (r *replay) snap(e *event) {
	// The longer output first: it has numbers that the shorter one does not tell.
	for _, cmd := range slices.Backward(slices.Sorted(maps.Keys(e.Outputs))) {
		want := e.Outputs[cmd]
		if cmd == "/proc/net/ip_vs_conn" {
			r.kernel.conns = procConns(want)
			r.file("net/ip_vs_conn", want)
			continue
		}
		args := strings.Fields(cmd)[1:]
		if _, exact := e.Outputs[cmd+" --exact"]; !exact {
			inject(r.kernel, strings.Join(args, " "), want)
		}
		var out, errs strings.Builder
		rc := RunPlain(args, nil, &out, &errs, r.kernel, knownNames{})
		if out.String() != want || errs.Len() > 0 || rc != 0 {
			r.differs("snap "+e.Label+": "+cmd, out.String()+errs.String(), want, out.String() == r.without(want) || out.String() == silent(want))
			continue
		}
		r.total.outputs++
	}
	// What one output has of connections, shown as the other, but for the time that passed between
	// them.
	if lnc, ok := e.Outputs["ipvsadm -Lnc"]; ok {
		if got, want := r.untimed(procConns(e.Outputs["/proc/net/ip_vs_conn"])), r.untimed(listedConns(lnc)); got != want {
			r.t.Errorf("%s: %s: from /proc/net/ip_vs_conn\n%s, from -Lnc\n%s", r.scenario, e.Label, got, want)
		}
	}
}

// untimed lists connections that all have the same time left.
func (r *replay) untimed(conns []api.Connection) string {
	for i := range conns {
		conns[i].Expires = 0
	}
	var out strings.Builder
	RunPlain([]string{"-Lnc"}, nil, &out, &out, &kernel{conns: conns}, knownNames{})
	return out.String()
}

// files compares what notes have of /proc.
func (r *replay) files(e *event) {
	if text, ok := strings.CutPrefix(e.Text, "ip_vs: "); ok {
		r.file("net/ip_vs", text)
	}
	if text, ok := strings.CutPrefix(e.Text, "ip_vs_stats: "); ok {
		var f [10]uint64
		n, err := fmt.Sscanf(strings.Join(strings.Fields(text), " "),
			"Total Incoming Outgoing Incoming Outgoing Conns Packets Packets Bytes Bytes %X %X %X %X %X "+
				"Conns/s Pkts/s Pkts/s Bytes/s Bytes/s %X %X %X %X %X", &f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6], &f[7], &f[8], &f[9])
		if err != nil {
			r.t.Fatal(n, err)
		}
		var b strings.Builder
		_ = writeStats(&b, api.Counts{Flows: f[0], Packets: f[1], Bytes: f[3]}, api.Rates{Flows: f[5], Packets: f[6], Bytes: f[8]})
		r.same("net/ip_vs_stats", b.String(), text)
	}
}

func (r *replay) file(name, want string) {
	dir := r.t.TempDir()
	if err := r.kernel.writeProc(dir); err != nil {
		r.t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	r.same(name, string(got), want)
}

func (r *replay) same(name, got, want string) {
	if got != want {
		r.differs(name, got, want, false)
		return
	}
	r.total.files++
}
