package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"shunt": func() { os.Exit(run(os.Args[1:])) },
	})
}

// The command line, as it is typed: testdata/script.
func TestScripts(t *testing.T) {
	captures, err := filepath.Abs("../../testdata/captures")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("CAPTURES", captures)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status,
		},
	})
}

// status runs a command that is to end with a given exit status: status 2 shunt nonsense.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// A socket that is not for the user: every command says so and what to do.
func TestSocketOfOthers(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "shunt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "shunt.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(socket, 0)); err != nil {
		t.Fatal(err)
	}
	ordinary := &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // to whom everything is permitted
		ordinary.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		data, err := os.ReadFile(program) // where an ordinary user may not go
		if err != nil {
			t.Fatal(err)
		}
		program = filepath.Join(dir, "shunt")
		if err := os.WriteFile(program, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]int{"status": 1, "status --json": 1, "top": 1, "conns": 1, "conns kill --all": 1, "explain tcp 1.2.3.4:5 > 6.7.8.9:10": 1,
		"doctor": 1, "ipvsadm -Ln": 2, "ipvsadm -C": 2} {
		name, rest, _ := strings.Cut(line, " ")
		args := append([]string{name}, strings.Fields(rest)...)
		if name == "explain" {
			args = []string{name, rest}
		}
		cmd := exec.Command(program, args...)
		cmd.Args[0] = "shunt"
		cmd.Dir, cmd.SysProcAttr = dir, ordinary
		cmd.Env = append(os.Environ(), "SHUNT_SOCKET="+socket)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != want || stdout.Len() > 0 ||
			!strings.Contains(stderr.String(), socket+" is not for you: be root or in its group") {
			t.Errorf("shunt %s: status %d, want %d; it says %q %q", line, got, want, stdout.String(), stderr.String())
		}
	}
}
