package replayrun

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// changeNames are what a person is told of the kinds of changes.
var changeNames = map[string]string{changeMoved: "moved", changeOnlyFirst: "only by the first", changeOnlySecond: "only by the second"}

// WriteText writes the comparison for a person.
func (c *Comparison) WriteText(w io.Writer) error {
	var b strings.Builder
	c.Capture.head(&b)
	fmt.Fprintf(&b, "First     %s\nSecond    %s\n", c.First.Config, c.Second.Config)
	c.summary(&b)
	c.Speed.tail(&b)
	c.changes(&b)
	c.realservers(&b)
	c.moved(&b)
	c.verdicts(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// summary is all that somebody reads who hopes that nothing moves.
func (c *Comparison) summary(b *strings.Builder) {
	f := &c.Flows
	fmt.Fprintf(b, "Flows     %d: %d alike, %d moved, %d only by the first, %d only by the second\n", f.All, f.Alike, f.Moved, f.OnlyFirst, f.OnlySecond)
	if t := &c.Templates; t.All > 0 {
		fmt.Fprintf(b, "Templates %d open at the end: %d alike, %d moved, %d only in the first, %d only in the second\n",
			t.All, t.Alike, t.Moved, t.OnlyFirst, t.OnlySecond)
	}
	same, all := uint64(0), uint64(0)
	for _, v := range c.Verdicts {
		all += v.Count
		if v.First == v.Second {
			same += v.Count
		}
	}
	fmt.Fprintf(b, "Packets   %d: %d with the same verdict, %d with another\n", all, same, all-same)
}

// changes is the matrix: from where to where flows move.
func (c *Comparison) changes(b *strings.Builder) {
	t := table{head: grid{{"Service", "First", "Second", "Flows", "%"}}}
	for i := range c.Services {
		s := &c.Services[i]
		rows := [][]string{{s.Name, "", "", number(s.Flows.All), ""}}
		if s.Flows.All > 0 {
			rows = append(rows, []string{"  alike", "", "", number(s.Flows.Alike), percent(share(s.Flows.Alike, s.Flows.All))})
		}
		for _, x := range s.Changes {
			rows = append(rows, []string{"  " + changeNames[x.Kind], x.First, x.Second, number(x.Flows), percent(x.Share)})
		}
		t.add(s.Flows.All-s.Flows.Alike, rows...)
	}
	t.write(b, "34", c.all, "service")
}

func percent(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) }

func (c *Comparison) realservers(b *strings.Builder) {
	t := table{head: grid{{"Realserver", "Weight", "", "Flows", "", "Packets", "", "Bytes", ""},
		{"", "first", "second", "first", "second", "first", "second", "first", "second"}}}
	for i := range c.Services {
		s := &c.Services[i]
		rows := [][]string{{s.Name, "", "", "", "", "", "", "", ""}}
		for _, r := range s.Realservers {
			x, y := r.First.cells(), r.Second.cells()
			rows = append(rows, []string{"  " + r.Address.String(), x[0], y[0], x[1], y[1], x[2], y[2], x[3], y[3]})
		}
		t.add(s.Flows.All-s.Flows.Alike, rows...)
	}
	t.write(b, "12345678", c.all, "service")
}

// cells are a realserver's columns of one side, which may not have it.
func (d *Destination) cells() [4]string {
	if d == nil {
		return [4]string{"-", "-", "-", "-"}
	}
	return [4]string{strconv.Itoa(int(d.Weight)), number(d.Flows), number(d.Packets), number(d.Bytes)}
}

func (c *Comparison) moved(b *strings.Builder) {
	if len(c.Moved) == 0 {
		return
	}
	t := grid{{"Moved at", "Service", "Flow", "First", "Second"}}
	for _, m := range c.Moved {
		t = append(t, []string{strconv.FormatFloat(m.Seconds, 'f', 6, 64), m.Service, m.Proto + " " + m.Client + " > " + m.Virtual, m.First, m.Second})
	}
	t.write(b, "0")
	if c.LeftOut > 0 {
		fmt.Fprintf(b, "and %d more, which --all lists\n", c.LeftOut)
	}
}

// verdicts lists what became otherwise of packets.
func (c *Comparison) verdicts(b *strings.Builder) {
	t := grid{{"Verdict of the first", "of the second", "Packets"}}
	for _, v := range c.Verdicts {
		if v.First != v.Second {
			t = append(t, []string{v.First, v.Second, number(v.Count)})
		}
	}
	if len(t) > 1 {
		t.write(b, "2")
	}
}
