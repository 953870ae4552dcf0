package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"

	"shunt/internal/readfile"
)

// maxFiles bounds the number of files of a configuration.
const maxFiles = 10_000

// include reads the files that the main file includes. size is how many bytes were read already.
func (s *source) include(main *document, size int) {
	if main.root == nil {
		return
	}
	value := find(main.root, "include")
	if value == nil {
		return
	}
	patterns := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		patterns = value.Content
	}
	seen := []string{filepath.Clean(main.name)}
	for _, n := range patterns {
		if n.Kind != yaml.ScalarNode {
			s.add(main, n, "%s where the path of a file is expected, such as conf.d/*.yaml", kindOf(n))
			continue
		}
		for _, path := range s.glob(main, n) {
			if slices.Contains(seen, path) {
				continue // the main file itself, or one that two patterns match
			}
			if seen = append(seen, path); len(seen) > maxFiles {
				s.add(main, n, "more than %d files", maxFiles)
				return
			}
			text, err := readfile.Regular(path, int64(maxText-size))
			if err != nil {
				s.add(main, n, "%v", err)
				continue
			}
			size += len(text)
			s.open(path, text)
		}
	}
}

// glob returns the files that a pattern of the main file matches, by name.
func (s *source) glob(main *document, n *yaml.Node) []string {
	pattern, err := s.env.expand(n.Value)
	if err != nil {
		s.add(main, n, "%v", err)
		return nil
	}
	if pattern == "" {
		s.add(main, n, "there is no path: write one such as conf.d/*.yaml")
		return nil
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(main.name), pattern)
	}
	if !strings.ContainsAny(pattern, `*?[`) {
		return []string{filepath.Clean(pattern)}
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		s.add(main, n, "%q is not a pattern of files: %v", pattern, err)
	}
	if len(files) == 0 && err == nil {
		if dir := filepath.Dir(pattern); !strings.ContainsAny(dir, `*?[`) {
			if _, err := os.Stat(dir); err != nil {
				s.add(main, n, "%v", err)
			}
		}
	}
	slices.Sort(files)
	return files
}
