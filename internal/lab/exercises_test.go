package lab

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A typed line of an exercise, and what has to be in the answer.
type typed struct {
	line    int
	command string
	want    []string
}

// readExercise takes the indented lines that begin with $, and those below each up to the next one
// or an empty line.
func readExercise(t *testing.T, path string) (out []typed) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	open := false
	for n := 1; in.Scan(); n++ {
		code, indented := strings.CutPrefix(in.Text(), "    ")
		command, isCommand := strings.CutPrefix(code, "$ ")
		switch {
		case !indented:
			open = false
		case isCommand:
			out = append(out, typed{line: n, command: command})
			open = true
		case open:
			out[len(out)-1].want = append(out[len(out)-1].want, words(code))
		}
	}
	return out
}

// words has single blanks between words.
func words(s string) string { return strings.Join(strings.Fields(s), " ") }

// The exercises of docs/lab work as they are written. A command is typed again until its answer is
// as the page says: some have to be waited for.
func TestExercises(t *testing.T) {
	pages, err := filepath.Glob("../../docs/lab/*.md")
	if here, _ := filepath.Glob("testdata/docs-lab/*.md"); len(here) > 0 {
		pages = here // run away from the source, as an ordinary user
	}
	if err != nil || len(pages) < 4 {
		t.Fatalf("exercises: %v, %v", pages, err)
	}
	for _, name := range []string{"ip", "sysctl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("the exercises use %s: apt-get install iproute2 procps", name)
		}
	}
	bin := t.TempDir() // commands call it shunt
	if err := os.Symlink(binary, filepath.Join(bin, "shunt")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, page := range pages {
		steps := readExercise(t, page)
		if filepath.Base(page) == "README.md" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			if len(steps) < 5 {
				t.Fatalf("only %d commands were found in %s", len(steps), page)
			}
			stand(t, Options{Topology: "one-arm", Captures: t.TempDir()})
			for _, s := range steps {
				s.do(t, page)
			}
		})
	}
}

// do types the command until the answer is right.
func (s *typed) do(t *testing.T, page string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, "sh", "-c", s.command).CombinedOutput()
		got, missing := words(string(out)), ""
		for _, w := range s.want {
			if !strings.Contains(got, w) {
				missing = w
			}
		}
		if err == nil && missing == "" {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s:%d: %s\n%v, and the answer lacks %q:\n%s", page, s.line, s.command, err, missing, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// stand keeps a laboratory until the end of the test, and returns what it says.
func stand(t *testing.T, opt Options) *buffer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := new(buffer)
	done := make(chan error, 1)
	opt.Keep, opt.Fetches, opt.Out, opt.Binary = true, 2, out, binary
	go func() { done <- Run(ctx, opt) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
	for !strings.Contains(out.String(), "runs until Ctrl-C") {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("it ended: %v\n%s", err, out.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return out
}
