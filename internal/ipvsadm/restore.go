package ipvsadm

import (
	"bufio"
	"io"
)

// restore runs each line of standard input (-R). A line that fails is reported and the next one
// run; the status is that of the last line. A line that ipvsadm does not understand ends it at
// once, with half a table.
func (r *runner) restore() (status int, err error) {
	in := bufio.NewReader(r.stdin)
	if r.beyond {
		return r.restoreWhole(func() ([]string, bool) { return readLine(in) })
	}
	for {
		args, ok := readLine(in)
		if !ok {
			return status, nil
		}
		if len(args) == 0 {
			continue
		}
		if status, err = r.line(args, true); err != nil {
			return status, err
		}
	}
}

// readLine reads the words of a line, as config_stream.c does. The word "ipvsadm" is left out
// wherever it is. It has two flaws that are kept: "#" begins no comment, and a last line without an
// end is forgotten if it has more than one blank at its end.
func readLine(in io.ByteScanner) (words []string, ok bool) {
	for {
		word, end := readWord(in)
		if len(word) == 0 {
			// Blanks, up to the end of the line or to a word.
			for {
				switch end {
				case '\n':
					return words, true
				case none:
					return words, len(words) > 0
				}
				c, err := in.ReadByte()
				if err != nil {
					return nil, false
				}
				if !blank(c) {
					_ = in.UnreadByte()
					break
				}
				end = int(c)
			}
			continue
		}
		if word != progname {
			words = append(words, word)
		}
		if end == '\n' {
			return words, true
		}
	}
}

// none is the end of the input.
const none = -1

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// readWord reads up to a blank, which it takes too and returns as end, or to the end of the input.
func readWord(in io.ByteReader) (word string, end int) {
	var b []byte
	for {
		c, err := in.ReadByte()
		if err != nil {
			return string(b), none
		}
		if blank(c) {
			return string(b), int(c)
		}
		b = append(b, c)
	}
}
