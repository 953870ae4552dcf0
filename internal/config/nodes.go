package config

import (
	"iter"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// What is asked of nodes of YAML, by which errors find their places.

// pairs are the keys of a mapping with their values, without those that are merged into it.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// find returns the value of a key that the mapping itself has.
func find(n *yaml.Node, key string) *yaml.Node {
	for k, v := range pairs(n) {
		if k.Value == key {
			return v
		}
	}
	return nil
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) (to *yaml.Node, alias bool) {
	if n.Kind == yaml.AliasNode {
		return n.Alias, true
	}
	return n, false
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 &&
		(n.Value == "" || n.Value == "~" || strings.EqualFold(n.Value, "null"))
}

func isMerge(key *yaml.Node) bool { return key.Value == "<<" && key.Style == 0 }

// kindOf names what a node is.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a block of keys"
	}
	return "text"
}

// maxLookups bounds the search for the place of an error where mappings are merged.
const maxLookups = 1000

// lookup returns the value of a key that a mapping has, or has by merging.
func lookup(n *yaml.Node, key string, left *int) *yaml.Node {
	if *left--; *left < 0 || n.Kind != yaml.MappingNode {
		return nil
	}
	if v := find(n, key); v != nil {
		return v
	}
	for k, v := range pairs(n) {
		if !isMerge(k) {
			continue
		}
		v, _ = follow(v)
		list := []*yaml.Node{v}
		if v.Kind == yaml.SequenceNode {
			list = v.Content
		}
		for _, m := range list {
			m, _ = follow(m)
			if found := lookup(m, key, left); found != nil {
				return found
			}
		}
	}
	return nil
}

// find returns the node at a path such as $.services[0].port and its file; if that is not there,
// the nearest thing around it.
func (s *source) find(path string) (*document, *yaml.Node) {
	steps := strings.FieldsFunc(strings.TrimPrefix(path, "$"), func(r rune) bool { return r == '.' || r == '[' || r == ']' })
	nowhere := &yaml.Node{}
	if len(steps) == 0 {
		return s.docs[0], nowhere
	}
	at := entry{doc: s.docs[0]}
	rest := steps[1:]
	if steps[0] == "services" {
		at, rest = s.service(rest)
	} else {
		for _, e := range s.entries {
			if e.key.Value == steps[0] {
				at = e
				break
			}
		}
	}
	if at.value == nil {
		return at.doc, nowhere
	}
	n, left := at.value, maxLookups
	for _, step := range rest {
		to, _ := follow(n)
		var next *yaml.Node
		if i, err := strconv.Atoi(step); err == nil && to.Kind == yaml.SequenceNode {
			if i < len(to.Content) {
				next = to.Content[i]
			}
		} else {
			next = lookup(to, step, &left)
		}
		if next == nil {
			break
		}
		n = next
	}
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		n = n.Content[0] // in braces it would be the brace
	}
	return at.doc, n
}

// service finds the file of a service by its number among all, and what is left of the path in that
// file.
func (s *source) service(steps []string) (entry, []string) {
	if len(s.services) == 0 {
		return entry{doc: s.docs[0]}, nil
	}
	if len(steps) == 0 {
		return s.services[0], nil
	}
	i, _ := strconv.Atoi(steps[0])
	for _, e := range s.services {
		list, _ := follow(e.value)
		if i < len(list.Content) {
			return e, append([]string{strconv.Itoa(i)}, steps[1:]...)
		}
		i -= len(list.Content)
	}
	return s.services[0], nil
}
