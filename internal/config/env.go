package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// environment is where ${NAME} is looked up, and what was found there.
type environment struct {
	lookup func(name string) (string, bool)
	used   map[string]string
}

func (e *environment) names() []string {
	var names []string
	for name := range e.used {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} and ${NAME:-default} in a value; $${ stands for ${. What comes in is
// text: neither a variable in it nor YAML is looked for.
func (e *environment) expand(text string) (string, error) {
	if !strings.Contains(text, "${") {
		return text, nil
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			b.WriteString(text)
			return b.String(), nil
		}
		if escaped, ok := strings.CutSuffix(before, "$"); ok {
			b.WriteString(escaped + "${")
			text = rest
			continue
		}
		b.WriteString(before)
		inside, after, closed := strings.Cut(rest, "}")
		name, otherwise, hasDefault := strings.Cut(inside, ":-")
		if !closed || !variable.MatchString(name) {
			return "", fmt.Errorf("%q is no variable: write ${NAME} or ${NAME:-default}, and $${ for the characters themselves",
				shorten("${"+rest, maxQuoted))
		}
		value, err := e.value(name, otherwise, hasDefault)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		text = after
	}
}

// value is what a variable has. As in a shell, :- is for one that is empty, too.
func (e *environment) value(name, otherwise string, hasDefault bool) (string, error) {
	value, set := "", false
	if e.lookup != nil {
		value, set = e.lookup(name)
	}
	switch {
	case hasDefault && value == "":
		value = otherwise
	case !set:
		return "", fmt.Errorf("the environment has no variable %s: set it, or write ${%s:-default}", shorten(name, maxQuoted), shorten(name, maxQuoted))
	}
	if e.used == nil {
		e.used = map[string]string{}
	}
	e.used[name] = value
	return value, nil
}
