package config

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// chunkSize is about how long the parts of a long list of services are that are decoded by themselves.
const chunkSize = 128 << 10

// decodeChunks is decodeOne for a file with many services: it cuts their list between two of them, and decodes the parts at the
// same time. It returns nil where it does not see at a glance that this means the same.
func decodeChunks(text []byte, size int) *file {
	head, chunks, tail, indent := cut(text, size)
	if len(chunks) < 2 {
		return nil
	}
	key := []byte("services:\n")
	all := decodeOne(slices.Concat(head, key, chunks[0], tail))
	if all == nil {
		return nil
	}
	parts := make([][]serviceFile, len(chunks))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(chunks)) {
		wg.Go(func() {
			for i := range next {
				parts[i] = decodeItems(string(chunks[i]), indent)
			}
		})
	}
	for i := 1; i < len(chunks); i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, part := range parts[1:] {
		if part == nil {
			return nil
		}
		all.Services = append(all.Services, part...)
	}
	return all
}

// decodeItems decodes some services, one by one, or returns nil.
func decodeItems(text string, indent int) (out []serviceFile) {
	begin := "\n" + strings.Repeat(" ", indent) + "- "
	for text != "" {
		item := text
		if n := strings.Index(text[1:], begin); n >= 0 {
			item = text[:n+2]
		}
		text = text[len(item):]
		if s, certain := decodePlain(item, indent); certain {
			out = append(out, s)
			continue
		}
		f := decodeOne([]byte("services:\n" + item))
		if f == nil {
			return nil
		}
		out = append(out, f.Services...)
	}
	return out
}

// cut finds the list of services and where it can be cut: in front of lines that begin with a dash where that of the first
// service is. That such a line begins a service is certain if nothing before it goes on from one line to the next: neither text
// nor braces. And a part means the same by itself if nothing refers to something elsewhere.
func cut(text []byte, size int) (head []byte, chunks [][]byte, tail []byte, indent int) {
	if len(text) < 2*size || bytes.ContainsAny(text, "&*\t\r") {
		return nil, nil, nil, 0
	}
	indent = -1
	begin, end := 0, len(text)
	var at []int // where chunks begin
	inside := false
	for pos := 0; pos < len(text); {
		line, start := text[pos:], pos
		if n := bytes.IndexByte(line, '\n'); n >= 0 {
			line = line[:n]
		}
		pos += len(line) + 1
		bare := bytes.TrimLeft(line, " ")
		if len(bare) == 0 || bare[0] == '#' {
			continue
		}
		column := len(line) - len(bare)
		item := column == indent && bytes.HasPrefix(bare, []byte("- "))
		switch {
		case !inside && string(bytes.TrimRight(line, " ")) == "services:":
			inside, begin = true, start
			continue
		case inside && indent < 0:
			indent, item = column, bytes.HasPrefix(bare, []byte("- "))
			if !item {
				return nil, nil, nil, 0
			}
			at = append(at, start)
		case inside && column == 0 && !item: // the next key
			end = start
		case item && (len(at) == 1 || start-at[len(at)-1] >= size): // the first part, which the library reads, is one service
			at = append(at, start)
		}
		if end < len(text) {
			break
		}
		if !closed(bare) {
			return nil, nil, nil, 0
		}
	}
	for i, from := range at {
		to := end
		if i+1 < len(at) {
			to = at[i+1]
		}
		chunks = append(chunks, text[from:to])
	}
	return text[:begin], chunks, text[end:], indent
}

// closed reports whether a line without what is rarely used certainly ends what it begins.
func closed(line []byte) bool {
	depth := 0
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth < 0 {
				return false
			}
		case '#', '|', '>', '!', '?', '\\':
			return false
		case '"', '\'':
			// Just words: with spaces or commas it would have to be looked at what is inside of which quotes.
			n := 1
			for i+n < len(line) && isWord(line[i+n]) {
				n++
			}
			if i+n == len(line) || line[i+n] != line[i] {
				return false
			}
			i += n
		}
	}
	return depth == 0
}

func isWord(c byte) bool {
	return isDigit(c) || isLetter(c) || c == '.' || c == '-' || c == '_' || c == '/' || c == ':'
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
