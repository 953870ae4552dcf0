package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Severity of a finding.
type Severity string

// Connections fail, or will; or may, or something could not be looked at.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Exit statuses of `shunt doctor`; 1 and 2 are those of every command: it failed, the command line was wrong.
const (
	StatusWarnings = 3
	StatusErrors   = 4
)

// A Finding is one thing that is wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	ID       string   `json:"id"` // of the kind of finding: a word that does not change
	What     string   `json:"what"`
	Evidence string   `json:"evidence"`
	Remedy   string   `json:"remedy"`
}

// A Report is all that a doctor found.
type Report struct {
	Config   string    `json:"config"`
	Director string    `json:"director"` // version of the running one; empty if none was asked
	Findings []Finding `json:"findings"`
	Well     []string  `json:"well"` // what was looked at and is as it should be
}

func (r *Report) find(severity Severity, id, what, evidence, remedy string) {
	r.Findings = append(r.Findings, Finding{severity, id, what, evidence, remedy})
}

// notLooked begins what could not be looked at, and is no fault.
const notLooked = "not looked at: "

func (r *Report) well(format string, args ...any) {
	r.Well = append(r.Well, fmt.Sprintf(format, args...))
}

// sort puts errors first; else things stay in the order in which they were looked at.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
}

// Count of the findings of a severity.
func (r *Report) Count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Status is the exit status: 0, StatusWarnings or StatusErrors.
func (r *Report) Status() int {
	switch {
	case r.Count(Error) > 0:
		return StatusErrors
	case r.Count(Warning) > 0:
		return StatusWarnings
	}
	return 0
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	who := "no director runs"
	if r.Director != "" {
		who = "the running director, version " + r.Director
	}
	fmt.Fprintf(w, "shunt doctor: %s; %s\n\n", r.Config, who)
	for _, f := range r.Findings {
		label := map[Severity]string{Error: "ERROR", Warning: "WARNING"}[f.Severity]
		fmt.Fprintf(w, "%-8s %s  [%s]\n         evidence: %s\n         remedy:   %s\n\n", label, f.What, f.ID, f.Evidence, f.Remedy)
	}
	for _, s := range r.Well {
		label := "ok"
		if strings.HasPrefix(s, notLooked) {
			label = "-"
		}
		fmt.Fprintf(w, "%-8s %s\n", label, s)
	}
	fmt.Fprintf(w, "\n%s, %s\n", plural(r.Count(Error), "error"), plural(r.Count(Warning), "warning"))
}
