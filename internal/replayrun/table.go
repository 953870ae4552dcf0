package replayrun

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// What is shown of a table that does not fit a screen.
const (
	rowsShown    = 32 // a table with no more rows is shown whole
	groupsShown  = 8
	membersShown = 3 // of each group, beside its head; of two groups or one, as many as there is room for
	matchesShown = 2 // of a service's addresses
)

// A table is a grid whose rows belong together in groups: a service and its realservers.
type table struct {
	head   grid
	groups []rows
}

// rows is a group. The first one is its head.
type rows struct {
	weight uint64 // which groups to show, if not all: those with the most
	lines  [][]string
}

// add adds a group.
func (t *table) add(weight uint64, lines ...[]string) {
	t.groups = append(t.groups, rows{weight, lines})
}

// write writes the table: all of it, or what fits a screen and how many more groups, called what,
// there are.
func (t *table) write(b *strings.Builder, right string, all bool, what string) {
	total := 0
	for _, g := range t.groups {
		total += len(g.lines)
	}
	groups, members := t.groups, total
	if !all && total > rowsShown {
		groups, members = t.some(total)
	}
	g := t.head
	for _, one := range groups {
		n := min(len(one.lines), members+1)
		g = append(g, one.lines[:n]...)
		if left := len(one.lines) - n; left > 0 {
			g = append(g, append([]string{fmt.Sprintf("  ... and %d more", left)}, make([]string, len(g[0])-1)...))
		}
	}
	g.write(b, right)
	if left := len(t.groups) - len(groups); left > 0 {
		fmt.Fprintf(b, "... and %s, which --all lists\n", plural(uint64(left), "more "+what, "more "+what+"s"))
	}
}

// some chooses the groups to show, and how many members of each. They stay in their order.
func (t *table) some(total int) (groups []rows, members int) {
	if total == len(t.groups) { // no group has members
		return t.weightiest(rowsShown), 0
	}
	if n := len(t.groups); n <= 2 {
		return t.groups, rowsShown/n - 2
	}
	return t.weightiest(groupsShown), membersShown
}

// weightiest returns the n groups with the most weight, in the order of the table.
func (t *table) weightiest(n int) []rows {
	order := make([]int, len(t.groups))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(t.groups[b].weight, t.groups[a].weight) })
	order = order[:min(n, len(order))]
	slices.Sort(order)
	chosen := make([]rows, len(order))
	for i, n := range order {
		chosen[i] = t.groups[n]
	}
	return chosen
}
