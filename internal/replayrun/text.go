package replayrun

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"shunt/forwarder"
)

// matchName writes a range of ports.
func matchName(m forwarder.Match) string {
	addr := m.Addr.String()
	if m.Addr.Is6() {
		addr = "[" + addr + "]"
	}
	switch {
	case m.First == m.Last:
		return fmt.Sprintf("%s %s:%d", m.Proto, addr, m.First)
	case m.First == 0 && m.Last == 65535:
		return fmt.Sprintf("%s %s:all", m.Proto, addr)
	}
	return fmt.Sprintf("%s %s:%d-%d", m.Proto, addr, m.First, m.Last)
}

// WriteText writes the report for a person.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	r.head(&b)
	r.realserverTable(&b)
	r.serviceTable(&b)
	r.verdictTable(&b)
	r.tail(&b)
	r.crowds(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) head(b *strings.Builder) {
	r.Capture.head(b)
	s := &r.Sent
	fmt.Fprintf(b, "Sent      %s, %s", count(s.Frames, "frame"), count(s.Bytes, "byte"))
	if s.Echoes+s.Answers > 0 {
		fmt.Fprintf(b, "; the director's own: %s, %s", plural(s.Echoes, "echo reply", "echo replies"), plural(s.Answers, "refusal", "refusals"))
	}
	if s.Limited > 0 {
		fmt.Fprintf(b, "; %s suppressed by the rate limit", count(s.Limited, "answer"))
	}
	b.WriteString("\n")
	if s.File != "" {
		fmt.Fprintf(b, "Output    %s (pcap)\n", s.File)
	}
}

// head tells what was read.
func (c *Capture) head(b *strings.Builder) {
	format := c.Format
	if c.Compressed {
		format += ", gzip"
	}
	name := nameOf(c.File)
	fmt.Fprintf(b, "Capture   %s (%s): %s, %s\n", name, format, count(c.Packets, "packet"), count(c.Bytes, "byte"))
	if c.Packets > 0 {
		fmt.Fprintf(b, "Time      %s to %s, %.6f s\n", c.First, c.Last, c.Seconds)
	}
	if c.Damage != "" {
		fmt.Fprintf(b, "Damaged   the rest is unreadable: %s\n", c.Damage)
	}
	if o := c.Offload; o != nil {
		fmt.Fprintf(b, "Offload   attributed to the network card: %s, %s; %s above 1500 bytes; --strict treats them as errors\n",
			plural(o.Checksums, "wrong checksum", "wrong checksums"), plural(o.Lengths, "missing length", "missing lengths"), count(o.Large, "packet"))
	}
	if c.Skipped > 0 {
		fmt.Fprintf(b, "Skipped   %s of non-Ethernet interfaces\n", count(c.Skipped, "packet"))
	}
	if c.StepsBack > 0 {
		fmt.Fprintf(b, "Clock     %s earlier than the one before; treated as simultaneous\n", count(c.StepsBack, "packet"))
	}
}

func (r *Report) realserverTable(b *strings.Builder) {
	t := table{head: grid{{"Realserver", "MAC", "", "Leg"}}}
	for _, s := range r.Realservers {
		t.add(0, []string{s.Address.String(), s.MAC, s.Origin, s.Leg})
	}
	t.write(b, "", r.all, "realserver")
}

func (r *Report) serviceTable(b *strings.Builder) {
	t := table{head: grid{{"Service", "Weight", "Flows", "%", "Packets", "Bytes"}}}
	for _, s := range r.Services {
		rows := [][]string{{s.title(r.all), "", number(s.Flows), "", number(s.Packets), number(s.Bytes)}}
		for _, d := range s.Realservers {
			share := "-"
			if s.Flows > 0 {
				share = strconv.FormatFloat(d.Share, 'f', 1, 64)
			}
			rows = append(rows, []string{"  " + d.Address.String(), strconv.Itoa(int(d.Weight)), number(d.Flows), share, number(d.Packets), number(d.Bytes)})
		}
		t.add(s.Packets, rows...)
	}
	t.write(b, " 12345", r.all, "service")
}

// title names a service and what it answers for; of many addresses, the first ones.
func (s *Service) title(all bool) string {
	name := s.Virtual
	if n := len(s.matches); n > matchesShown && !all {
		name = fmt.Sprintf("%s ... and %d more", strings.Join(s.matches[:matchesShown], ", "), n-matchesShown)
	}
	if s.Name != "" && s.Name != s.Virtual {
		name = s.Name + ": " + name
	}
	return name + " " + s.Scheduler
}

func (r *Report) verdictTable(b *strings.Builder) {
	t := grid{{"Verdict", "Packets", "Meaning"}}
	sum := uint64(0)
	for _, v := range r.Verdicts {
		sum += v.Count
		t = append(t, []string{v.Name, number(v.Count), v.Meaning})
	}
	t = append(t, []string{"all", number(sum), ""})
	t.write(b, " 1")
}

func (r *Report) tail(b *strings.Builder) {
	t := &r.Table
	fmt.Fprintf(b, "\nOpen      %s, %s", count(uint64(t.Open), "flow"), count(uint64(t.Templates), "template"))
	for i, s := range t.States {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(b, "%s%d %s", sep, s.Flows, s.Proto)
		if s.State != s.Proto { // the only state of UDP is called so
			b.WriteString(" " + s.State)
		}
	}
	fmt.Fprintf(b, "\nTable     %s, %s; %d created, %d expired, %d evicted, %d refused\n", plural(uint64(t.Capacity), "entry", "entries"),
		bytesOf(int64(t.Memory)), t.Created, t.Expired, t.Evicted, t.Refused)
	r.Speed.tail(b)
}

// tail tells how fast it went, if that is to be told.
func (s *Speed) tail(b *strings.Builder) {
	if s != nil {
		fmt.Fprintf(b, "Speed     %.0f frames/s, %.3f s\n", s.Frames, s.Seconds)
	}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func count(n uint64, what string) string { return plural(n, what, what+"s") }

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// grid is a table of words. Its first row is the header.
type grid [][]string

// write aligns the columns; those whose numbers are in right are aligned to the right.
func (t grid) write(b *strings.Builder, right string) {
	widths := make([]int, len(t[0]))
	for _, row := range t {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	b.WriteString("\n")
	for _, row := range t {
		line := ""
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if strings.Contains(right, strconv.Itoa(i)) {
				line += pad + cell
			} else {
				line += cell + pad
			}
			line += "  "
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
