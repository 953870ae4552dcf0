package config

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
)

// chunkSize is about how long the parts of a long list of services are that are decoded by themselves. The tree of a part is
// dropped before those of others are made, so that small parts also spare memory.
const chunkSize = 128 << 10

// decodeChunks is decodeOne for a file with many services: it cuts their list between two of them, and decodes the parts at the
// same time. It returns nil where it does not see at a glance that this means the same.
func decodeChunks(text []byte, size int) *file {
	head, chunks, tail := cut(text, size)
	if len(chunks) < 2 {
		return nil
	}
	key := []byte("services:\n")
	files := make([]*file, len(chunks))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(chunks)) {
		wg.Go(func() {
			for i := range next {
				if i == 0 {
					files[i] = decodeOne(slices.Concat(head, key, chunks[i], tail))
				} else {
					files[i] = decodeOne(slices.Concat(key, chunks[i]))
				}
			}
		})
	}
	for i := range chunks {
		next <- i
	}
	close(next)
	wg.Wait()
	all := files[0]
	for i, f := range files {
		if f == nil {
			return nil
		}
		if i > 0 {
			all.Services = append(all.Services, f.Services...)
		}
	}
	return all
}

// cut finds the list of services and where it can be cut: in front of lines that begin with a dash where that of the first
// service is. That such a line begins a service is certain if nothing before it goes on from one line to the next: neither text
// nor braces. And a part means the same by itself if nothing refers to something elsewhere.
func cut(text []byte, size int) (head []byte, chunks [][]byte, tail []byte) {
	if len(text) < 2*size || bytes.ContainsAny(text, "&*\t\r") {
		return nil, nil, nil
	}
	indent, begin, end := -1, 0, len(text)
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
				return nil, nil, nil
			}
			at = append(at, start)
		case inside && column == 0 && !item: // the next key
			end = start
		case item && start-at[len(at)-1] >= size:
			at = append(at, start)
		}
		if end < len(text) {
			break
		}
		if !closed(bare) {
			return nil, nil, nil
		}
	}
	for i, from := range at {
		to := end
		if i+1 < len(at) {
			to = at[i+1]
		}
		chunks = append(chunks, text[from:to])
	}
	return text[:begin], chunks, text[end:]
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
			// Just words: with spaces, colons or commas it would have to be looked at what is inside of which quotes.
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
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '-' || c == '_' || c == '/'
}
