package convert

import "strings"

// A node is one statement of keepalived.conf: its words, and the statements between its braces.
type node struct {
	place
	words    []string
	children []*node
}

// word returns the i-th word, or "".
func (n *node) word(i int) string {
	if i < len(n.words) {
		return n.words[i]
	}
	return ""
}

func (n *node) String() string { return strings.Join(n.words, " ") }

// needsBlock are the statements whose block keepalived reads whether there is an opening brace or
// not, by their depth.
func (n *node) needsBlock(depth int) bool {
	switch n.word(0) {
	case "virtual_server", "virtual_server_group":
		return depth == 0
	case "real_server":
		return depth == 1
	}
	return false
}

// tree reads all statements. A brace belongs to the statement before it.
func (x *textReader) tree() []*node {
	root := &node{}
	stack := []*node{root}
	var last *node // the statement that a brace would belong to
	for {
		text, at, ok := x.piece()
		if ok && text != "{" && last != nil && last.needsBlock(len(stack)-1) {
			x.r.remark(last.place, "%s: there is no opening brace; keepalived takes what follows for its block", last)
			stack = append(stack, last)
		}
		if !ok {
			break
		}
		switch text {
		case "{":
			if last == nil {
				x.r.lose(at, "an unexpected brace: its block is ignored")
				last = &node{place: at}
			}
			if len(stack) > maxDepth {
				x.stop("blocks within blocks, deeper than %d", maxDepth)
				return root.children
			}
			stack, last = append(stack, last), nil
		case "}":
			if last = nil; len(stack) == 1 {
				x.r.lose(at, "a closing brace without an opening one")
				continue
			}
			stack = stack[:len(stack)-1]
		default:
			if last = x.statement(text, at); last != nil {
				top := stack[len(stack)-1]
				top.children = append(top.children, last)
			}
		}
	}
	if len(stack) > 1 {
		x.r.lose(stack[len(stack)-1].place, "the block that begins here is not closed")
	}
	return root.children
}

// blanks separate words.
const blanks = " \t\f\n\r\v"

// statement cuts a line into words; what is between quotation marks is one word.
func (x *textReader) statement(s string, at place) *node {
	n := &node{place: at}
	for {
		s = strings.TrimLeft(s, blanks)
		if s == "" {
			break
		}
		if inner, quoted := strings.CutPrefix(s, `"`); quoted {
			word, rest, closed := strings.Cut(inner, `"`)
			if !closed {
				break // told by uncomment
			}
			n.words, s = append(n.words, word), rest
			continue
		}
		i := strings.IndexAny(s, blanks+`"`)
		if i < 0 {
			i = len(s)
		}
		n.words, s = append(n.words, s[:i]), s[i:]
	}
	if len(n.words) == 0 {
		return nil
	}
	return n
}
