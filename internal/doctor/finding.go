package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"shunt/internal/figures"
)

// Severity is the severity of a finding.
type Severity string

// Connections fail, or will; or may, or something could not be looked at.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Exit statuses of `shunt doctor`; 1 and 2 are those of every command: it failed, the command line
// was wrong.
const (
	StatusWarnings = 3
	StatusErrors   = 4
	StatusUnknown  = 5 // nothing was found, but something could not be looked at
)

// A Finding is one problem.
type Finding struct {
	Severity Severity `json:"severity"`
	ID       string   `json:"id"` // of the kind of finding: a word that does not change
	What     string   `json:"what"`
	Evidence string   `json:"evidence"`
	Remedy   string   `json:"remedy"`
}

// An Unknown is a check that could not run.
type Unknown struct {
	ID     string `json:"id"` // a word that does not change
	What   string `json:"what"`
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
}

// A Report is the result of all checks.
type Report struct {
	Config   string    `json:"config"`
	Director string    `json:"director"` // version of the running one; empty if none was asked
	Result   string    `json:"result"`   // errors, warnings, unknown or well: the worst that there is
	Findings []Finding `json:"findings"`
	Unknown  []Unknown `json:"unknown"` // what could not be looked at
	Well     []string  `json:"well"`    // what was looked at and is as it should be
}

func (r *Report) find(severity Severity, id, what, evidence, remedy string) {
	r.Findings = append(r.Findings, Finding{severity, id, what, evidence, remedy})
}

func (r *Report) unknown(id, what, why, remedy string) {
	r.Unknown = append(r.Unknown, Unknown{id, what, why, remedy})
}

func (r *Report) well(format string, args ...any) {
	r.Well = append(r.Well, fmt.Sprintf(format, args...))
}

// sort puts errors first; else things stay in the order in which they were looked at.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
}

// has reports whether there is a finding of a kind.
func (r *Report) has(id string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == id })
}

// Count returns the number of findings of a severity.
func (r *Report) Count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// result is the worst that there is, in a word.
func (r *Report) result() string {
	switch {
	case r.Count(Error) > 0:
		return "errors"
	case r.Count(Warning) > 0:
		return "warnings"
	case len(r.Unknown) > 0:
		return "unknown"
	}
	return "well"
}

// Status returns the exit status: 0 only if there are no findings and all checks could run.
func (r *Report) Status() int {
	return map[string]int{"errors": StatusErrors, "warnings": StatusWarnings, "unknown": StatusUnknown}[r.result()]
}

// Print writes the report as text.
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
	for _, u := range r.Unknown {
		fmt.Fprintf(w, "%-8s not checked: %s  [%s]\n         because:  %s\n         remedy:   %s\n\n", "UNKNOWN", u.What, u.ID, u.Why, u.Remedy)
	}
	for _, s := range r.Well {
		fmt.Fprintf(w, "%-8s %s\n", "ok", s)
	}
	unknown := ""
	if n := len(r.Unknown); n > 0 {
		unknown = fmt.Sprintf(", %d not checked", n)
	}
	fmt.Fprintf(w, "\n%s, %s%s\n", figures.Plural(r.Count(Error), "error"), figures.Plural(r.Count(Warning), "warning"), unknown)
}
