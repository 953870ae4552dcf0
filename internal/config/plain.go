package config

import (
	"strings"
	"unique"
)

// Most of a long list of services is as plain as can be: a key and a word on a line, a realserver in braces on another. That is read
// here, some ten times as fast as by a library, which has to reckon with everything at every byte. What is not certain to be understood
// is left to the library, service by service; so nothing here makes an error, and TestChunks has it mean the same.

// decodePlain is decodeOne for a service whose item begins with a dash at column indent; it returns false where it is not certain.
func decodePlain(item string, indent int) (s serviceFile, certain bool) {
	var (
		r      *realserverFile // whose keys follow, nil if none may
		list   = -2            // the column of the realservers' dashes; -1: the next line tells, -2: no list is open
		listed bool            // there was one
		first  = true
	)
	for line := range strings.SplitSeq(item, "\n") {
		line = strings.TrimRight(line, " ")
		bare := strings.TrimLeft(line, " ")
		column := len(line) - len(bare)
		if bare == "" {
			continue
		}
		if bare[0] == '#' {
			if !isASCII(bare) { // in which there are other ends of lines, and what no file may have
				return s, false
			}
			continue
		}
		rest, dash := strings.CutPrefix(bare, "- ")
		switch {
		case first:
			if first = false; !dash || column != indent || !plainField(&s, rest) {
				return s, false
			}
		case dash && list != -2 && (column == list || list == -1 && column >= indent+2):
			list = column
			s.Realservers = append(s.Realservers, realserverFile{})
			if r = &s.Realservers[len(s.Realservers)-1]; rest[0] != '{' {
				if !r.plainField(rest) {
					return s, false
				}
			} else if !r.plainBraces(rest) {
				return s, false
			} else {
				r = nil
			}
		case r != nil && column == list+2:
			if !r.plainField(bare) {
				return s, false
			}
		case column == indent+2 && bare == "realservers:" && !listed:
			list, listed, r = -1, true, nil
		case column == indent+2:
			if list, r = -2, nil; !plainField(&s, bare) {
				return s, false
			}
		default:
			return s, false
		}
	}
	return s, !first
}

// A key that is there twice is an error. It is found by its value, as all that is certain is something.

func plainField(s *serviceFile, field string) bool {
	key, value, ok := strings.Cut(field, ": ")
	if !ok {
		return false
	}
	switch key {
	case "name":
		ok := plainText(&s.Name, value)
		s.Name = strings.Clone(s.Name) // it is still there when the file is forgotten
		return ok
	case "address":
		return plainText(&s.Address, value)
	case "protocol":
		return plainText(&s.Protocol, value)
	case "port":
		return plainAny(&s.Port, value)
	case "scheduler":
		return plainStaying(&s.Scheduler, value)
	case "table_size":
		return plainNumber(&s.TableSize, value)
	case "persistence":
		return plainAny(&s.Persistence, value)
	case "persistence_mask":
		return plainNumber(&s.Mask, value)
	case "slow_start":
		return plainAny(&s.SlowStart, value)
	}
	return false
}

func (r *realserverFile) plainBraces(text string) bool {
	inside, ok := strings.CutSuffix(text[1:], "}")
	if !ok {
		return false
	}
	for field := range strings.SplitSeq(inside, ",") {
		if !r.plainField(strings.Trim(field, " ")) {
			return false
		}
	}
	return true
}

func (r *realserverFile) plainField(field string) bool {
	key, value, ok := strings.Cut(field, ": ")
	if !ok {
		return false
	}
	switch key {
	case "address":
		return plainText(&r.Address, value)
	case "weight":
		return plainNumber(&r.Weight, value)
	case "upper":
		return plainNumber(&r.Upper, value)
	case "lower":
		return plainNumber(&r.Lower, value)
	case "drain":
		return plainAny(&r.Drain, value)
	case "mac":
		return plainText(&r.MAC, value)
	case "leg":
		return plainStaying(&r.Leg, value)
	}
	return false
}

// plainWord returns what a scalar says, and whether it is in quotes. It is "" if that is not certain.
func plainWord(value string) (word string, quoted bool) {
	value = strings.Trim(value, " ")
	if n := len(value); n > 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value, quoted = value[1:n-1], true
	}
	if value == "" || !quoted && (!isLetter(value[0]) && !isDigit(value[0]) || value[len(value)-1] == ':') {
		return "", false
	}
	for i := range len(value) {
		if !isWord(value[i]) {
			return "", false
		}
	}
	return value, quoted
}

func plainText(at *string, value string) bool {
	word, quoted := plainWord(value)
	if word == "" || *at != "" || !quoted && strings.EqualFold(word, "null") {
		return false
	}
	*at = word
	return true
}

// plainStaying is plainText for what is still there when the file is forgotten: of one word in many services there is one.
func plainStaying(at *string, value string) bool {
	ok := plainText(at, value)
	if ok {
		*at = unique.Make(*at).Value()
	}
	return ok
}

func plainNumber(at **int, value string) bool {
	n, ok := plainDecimal(value)
	if !ok || *at != nil {
		return false
	}
	*at = &n
	return true
}

// plainDecimal reads a number that is one in every dialect.
func plainDecimal(value string) (n int, ok bool) {
	if value == "" || len(value) > 9 || value[0] == '0' && len(value) > 1 {
		return 0, false
	}
	for i := range len(value) {
		if !isDigit(value[i]) {
			return 0, false
		}
		n = 10*n + int(value[i]-'0')
	}
	return n, true
}

// plainAny reads a scalar whose kind is not given: a number, a time such as 90s, all, or what is in quotes.
func plainAny(at *any, value string) bool {
	if *at != nil {
		return false
	}
	value = strings.Trim(value, " ")
	if n, ok := plainDecimal(value); ok {
		*at = n
		return true
	}
	word, quoted := plainWord(value)
	if word == "" || !quoted && word != "all" && !isTime(word) {
		return false
	}
	*at = word
	return true
}

// isTime knows numbers with a unit, of whatever length: they are text to YAML.
func isTime(word string) bool {
	number := strings.TrimRight(word, "smh")
	_, ok := plainDecimal(number)
	return ok && number != word
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
