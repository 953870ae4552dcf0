package manpage

import (
	"regexp"
	"strings"
	"testing"

	"shunt/docs"
)

func TestRender(t *testing.T) {
	got := string(Render(Page{Name: "x.yaml", Section: "5", Summary: "what x is", Source: "x 1", SeeAlso: "**x**(8)"}, "# Title\n\nSee [there](#there) and [it](it.md#a).\n\n"+
		"## A section\n\n| key | default | meaning |\n|---|---|---|\n| `a` | 1 | Something [more](#more). |\n| `b` | | |\n\n### below\n\n```yaml\n| not: [a](table)\n```\n"))
	for _, want := range []string{
		`.TH "X.YAML" "5" "" "x 1" "shunt"`, ".SH NAME\nx.yaml \\- what x is", "See there and it (it.md).", ".SH A SECTION",
		".TP\n\\fBa\\fR\nSomething more. (\\fIdefault\\fP: 1)", ".TP\n\\fBb\\fR\n", ".SS below", "| not: [a](table)", ".SH SEE ALSO\n\\fBx\\fP(8)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "Title") || strings.Contains(got, "---") {
		t.Errorf("there is more than there should be:\n%s", got)
	}
}

// Every key that the document describes is an entry of the page, and nothing of Markdown is left.
func TestConfiguration(t *testing.T) {
	page := string(Render(Page{Name: "shunt.yaml", Section: "5"}, docs.Configuration))
	keys := regexp.MustCompile("(?m)^\\| `([^`|]+)` \\|").FindAllStringSubmatch(docs.Configuration, -1)
	if len(keys) < 70 {
		t.Fatalf("only %d keys were found", len(keys))
	}
	for _, k := range keys {
		if entry := "\n.TP\n\\fB" + k[1] + "\\fR\n"; !strings.Contains(page, entry) {
			t.Errorf("there is no entry for %s", k[1])
		}
	}
	for _, mark := range []string{"\n|", "](", "```", "**"} {
		if at := strings.Index(page, mark); at >= 0 {
			t.Errorf("%q is left: %.80q", mark, page[at:])
		}
	}
}
