package config

import (
	"bytes"
	"fmt"
	"io"

	fast "go.yaml.in/yaml/v3"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

// Two libraries read the file. The first is fast and says little of where an error is; the second tells it well, but takes
// seconds for a file of thousands of services. So a right file costs what the first takes, and a wrong one is read again. Of a long
// list of services the first reads just what is not as plain as most: see chunks.go and plain.go.

// decodeFast reads a file with which nothing is wrong as YAML and as keys, or returns nil.
func decodeFast(text []byte) *file {
	if f := decodeChunks(text, chunkSize); f != nil {
		return f
	}
	return decodeOne(text)
}

// decodeOne is decodeFast by one goroutine. A library that panics over a broken file must not end a running director.
func decodeOne(text []byte) (f *file) {
	defer func() {
		if recover() != nil {
			f = nil
		}
	}()
	f = new(file)
	d := fast.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if d.Decode(f) != nil {
		return nil
	}
	var more any
	if d.Decode(&more) != io.EOF {
		return nil
	}
	return f
}

// decode reads the file and tells what is wrong with it.
func (s *source) decode() (f *file, err error) {
	if err := s.parse(); err != nil {
		return nil, err
	}
	if len(s.ast.Docs) > 1 {
		return nil, &Error{File: s.file, Message: "several YAML documents; a configuration is one"}
	}
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("%s: this is YAML that cannot be understood (%v)", s.file, p)
		}
	}()
	f = new(file)
	if err := yaml.UnmarshalWithOptions(s.text, f, yaml.Strict()); err != nil {
		return nil, s.yamlError(err)
	}
	return f, nil
}

// parse makes the tree of the file, in which errors find their places.
func (s *source) parse() (err error) {
	if s.ast != nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			s.ast, err = nil, &Error{File: s.file, Message: fmt.Sprintf("this is YAML that cannot be understood (%v)", p)}
		}
	}()
	f, err := parser.ParseBytes(s.text, 0)
	if err != nil {
		return s.yamlError(err)
	}
	s.ast = f
	return nil
}
