package convert

import (
	"errors"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// A definition is what $NAME and ${NAME} stand for: text, which may refer to other definitions.
type definition struct {
	lines  []string
	many   bool // it was written on several lines
	goesOn bool // its last line ended with a backslash
	text   func(args []string) string
	args   bool // text takes some
}

// value is the definition's text, or its first line.
func (d *definition) value(args []string) string {
	switch {
	case d.text != nil:
		return d.text(args)
	case len(d.lines) == 0:
		return ""
	}
	return d.lines[0]
}

// add takes a further line of the definition. It returns whether there are more.
func (d *definition) add(line string) (goesOn bool) {
	line, d.goesOn = strings.CutSuffix(line, `\`)
	if d.goesOn {
		line = strings.TrimRight(line, " \t")
	}
	if line != "" {
		d.lines = append(d.lines, line)
	}
	if !d.goesOn && len(d.lines) == 0 {
		d.many = false
	}
	return d.goesOn
}

// standard are the definitions that keepalived has.
func (x *textReader) standard() {
	x.defs["_PWD"] = &definition{text: func([]string) string {
		dir, err := filepath.Abs(x.directory())
		if err != nil {
			return x.directory()
		}
		return dir
	}}
	x.defs["_INSTANCE"] = &definition{text: func([]string) string { return x.id }}
	x.defs["_RANDOM"] = &definition{args: true, text: x.random}
	x.defs["_HASH"] = &definition{lines: []string{"#"}}
	x.defs["_BANG"] = &definition{lines: []string{"!"}}
}

// random is a number that keepalived would have drawn: the least that it could be, so that every
// run is the same.
func (x *textReader) random(args []string) string {
	least := "0"
	if len(args) > 0 {
		least = args[0]
	}
	x.r.lose(x.at, "${_RANDOM} is another number each time that keepalived starts: %s is taken", least)
	return least
}

func nameChar(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// nameAt returns the name that begins at i, or "".
func nameAt(s string, i int) string {
	end := i
	for end < len(s) && nameChar(s[end]) {
		end++
	}
	if end > i && s[i] >= '0' && s[i] <= '9' {
		return ""
	}
	return s[i:end]
}

// define takes $NAME=TEXT. It returns nil if the line is none.
func (x *textReader) define(line string) *definition {
	name := nameAt(line, 1)
	if name == "" || !strings.HasPrefix(line[1+len(name):], "=") {
		return nil
	}
	value := strings.TrimLeft(line[len(name)+2:], " \t")
	d := &definition{}
	x.defs[name] = d
	if strings.HasSuffix(value, `\`) {
		d.many = true
		d.add(value)
	} else {
		d.lines = []string{value}
	}
	return d
}

// reference reads $NAME or ${NAME} at i, and returns where it ends. A definition of several lines
// counts only where the line ends with it; without braces, a blank, a comma, a parenthesis or the
// end of the line has to follow.
func (x *textReader) reference(line string, i int) (d *definition, end int, args []string) {
	braces := strings.HasPrefix(line[i+1:], "{")
	from := i + 1
	if braces {
		from++
	}
	name := nameAt(line, from)
	d, end = x.defs[name], from+len(name)
	switch {
	case name == "" || d == nil:
		return nil, 0, nil
	case braces:
		n := strings.IndexByte(line[end:], '}')
		if n < 0 || strings.Trim(line[end:end+n], " 0123456789") != "" || strings.HasSuffix(line[end:end+n], " ") {
			return nil, 0, nil
		}
		if args = strings.Fields(line[end : end+n]); len(args) > 0 && !d.args {
			return nil, 0, nil
		}
		end += n + 1
	case end < len(line) && !strings.ContainsRune(" \t,)", rune(line[end])):
		return nil, 0, nil
	}
	if d.many && end != len(line) {
		return nil, 0, nil
	}
	return d, end, args
}

// replace puts in what is defined. What was put in is looked at again. The further lines of a
// definition are read next.
func (x *textReader) replace(line string) (out string, changed bool) {
	count := 0
	for i := 0; i < len(line)-1; {
		n := strings.IndexByte(line[i:], '$')
		if n < 0 || i+n+1 >= len(line) {
			break
		}
		i += n
		d, end, args := x.reference(line, i)
		if d == nil {
			i++
			continue
		}
		if count++; count > maxInLine || len(line) > maxLine || !x.spend() {
			x.r.lose(x.at, "the definitions in this line do not end: the line is ignored")
			return "", false
		}
		changed = true
		value := d.value(args)
		if len(d.lines) > 1 {
			x.stack = append(x.stack, eachLine(d.lines[1:]))
		}
		line = line[:i] + value + line[end:]
		if strings.HasPrefix(strings.TrimLeft(value, " \t"), "~") {
			break
		}
	}
	return line, changed
}

func eachLine(lines []string) expansion {
	i := 0
	return func() (string, bool) {
		i++
		return lines[i-1], i < len(lines)
	}
}

// sequence takes ~SEQ(NAME, ...) TEXT and ~LST(NAMES, VALUES...) TEXT: TEXT is read for each of the
// values.
func (x *textReader) sequence(line string) error {
	var next expansion
	var err error
	if body, isSeq := strings.CutPrefix(line, "~SEQ"); isSeq {
		next, err = x.counted(body)
	} else {
		next, err = x.listed(line[len("~LST"):])
	}
	if err == nil {
		x.stack = append(x.stack, next)
	}
	return err
}

// set defines what a sequence varies.
func (x *textReader) set(name, value string) { x.defs[name] = &definition{lines: []string{value}} }

var (
	errSeq = errors.New("it is not of the form ~SEQ(NAME, START, STEP, END) TEXT")
	errLst = errors.New("it is not of the form ~LST({NAMES}, {VALUES}, ...) TEXT")
)

// counted reads ~SEQ: (NAME, END), (NAME, START, END) or (NAME, START, STEP, END).
func (x *textReader) counted(s string) (expansion, error) {
	base := 10
	if rest, hex := strings.CutPrefix(s, "x"); hex {
		s, base = rest, 16
	}
	s, ok := strings.CutPrefix(strings.TrimLeft(s, " \t"), "(")
	inner, text, closed := strings.Cut(s, ")")
	name, numbers, several := strings.Cut(inner, ",")
	if name = strings.Trim(name, " \t"); !ok || !closed || !several || name == "" || strings.ContainsAny(name, " \t") {
		return nil, errSeq
	}
	numbers, _ = x.replace(numbers)
	var n []int64
	for word := range strings.SplitSeq(numbers, ",") {
		v, err := strconv.ParseInt(strings.Trim(word, " \t"), 0, 64)
		if err != nil || v < math.MinInt32 || v > math.MaxInt32 {
			return nil, errSeq
		}
		n = append(n, v)
	}
	start, step, end, ok := steps(n)
	if !ok || base == 16 && (start < 0 || end < 0) {
		return nil, errSeq
	}
	text = strings.TrimLeft(text, " \t")
	return func() (string, bool) {
		x.set(name, strconv.FormatInt(start, base))
		start += step
		return text, step > 0 && start <= end || step < 0 && start >= end
	}, nil
}

// steps are the start, the step and the end of a sequence of which one to three numbers were given.
func steps(n []int64) (start, step, end int64, ok bool) {
	towards := func(up bool) int64 {
		if up {
			return 1
		}
		return -1
	}
	switch len(n) {
	case 1:
		return towards(n[0] >= 0), towards(n[0] >= 1), n[0], true
	case 2:
		return n[0], towards(n[0] <= n[1]), n[1], true
	case 3:
		return n[0], n[1], n[2], n[1] != 0 && (n[0] <= n[2] || n[1] < 0) && (n[0] >= n[2] || n[1] > 0)
	}
	return 0, 0, 0, false
}

// listed reads ~LST: a name or {names}, then a value or {values} for each round.
func (x *textReader) listed(s string) (expansion, error) {
	s, ok := strings.CutPrefix(strings.TrimLeft(s, " \t"), "(")
	if !ok {
		return nil, errLst
	}
	var sets [][]string
	for {
		var set []string
		if set, s, ok = valueSet(s); !ok || len(sets) > 0 && len(set) > len(sets[0]) {
			return nil, errLst
		}
		sets = append(sets, set)
		if rest, end := strings.CutPrefix(s, ")"); end {
			s = strings.TrimLeft(rest, " \t")
			break
		}
		if s, ok = strings.CutPrefix(s, ","); !ok {
			return nil, errLst
		}
	}
	if len(sets) < 2 {
		return nil, errLst
	}
	names, i := sets[0], 1
	return func() (string, bool) {
		for j, name := range names {
			value := ""
			if j < len(sets[i]) {
				value = sets[i][j]
			}
			x.set(name, value)
		}
		i++
		return s, i < len(sets)
	}, nil
}

// valueSet reads one value, or some in braces.
func valueSet(s string) (set []string, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	inner, braces := strings.CutPrefix(s, "{")
	end := strings.IndexAny(inner, "})")
	if !braces {
		end = strings.IndexAny(inner, ",)}")
	}
	if end < 0 || braces != (inner[end] == '}') {
		return nil, "", false
	}
	for word := range strings.SplitSeq(inner[:end], ",") {
		set = append(set, strings.Trim(word, " \t"))
	}
	if braces {
		end++
	}
	return set, strings.TrimLeft(inner[end:], " \t"), true
}
