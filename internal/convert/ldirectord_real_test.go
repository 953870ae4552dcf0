//go:build programs

package convert

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"shunt/api"
	"shunt/internal/ipvsadm"
)

// TestMain lets the test's program be the ipvsadm that ldirectord calls.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "ipvsadm" {
		os.Exit(loggingIpvsadm(os.Getenv("IPVSADM_LOG"), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// A listing is a recorder that can be listed.
type listing struct{ *recorder }

func (l listing) Table(context.Context) (t api.Table, err error) {
	for _, s := range l.r.services {
		e := api.TableService{VirtualService: s.VirtualService}
		for _, x := range s.reals {
			e.Servers = append(e.Servers, api.TableServer{VirtualServer: x.VirtualServer})
		}
		t.Services = append(t.Services, e)
	}
	return t, nil
}

// replayed is the state after all commands of a log.
func replayed(log string) listing {
	l := listing{&recorder{r: newResult(ipvsadm.SystemNames())}}
	text, _ := os.ReadFile(log) // there is none at first
	for line := range strings.Lines(string(text)) {
		ipvsadm.RunPlain(strings.Fields(line), strings.NewReader(""), io.Discard, io.Discard, l, l.r.names)
	}
	return l
}

// loggingIpvsadm is an ipvsadm whose state is a log of commands.
func loggingIpvsadm(log string, args []string) int {
	l := replayed(log)
	status := ipvsadm.RunPlain(args, os.Stdin, os.Stdout, os.Stderr, l, l.r.names)
	if len(args) > 0 && args[0] != "-L" {
		f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return 1
		}
		defer f.Close()
		fmt.Fprintln(f, strings.Join(args, " "))
	}
	return status
}

// What ldirectord makes of each file, with realservers that are up, is what was recorded.
func TestLdirectordItself(t *testing.T) {
	dir := root(t)
	for _, name := range statements(t, "testdata/ldirectord/*.cf") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			lines, started := ldirectordLines(t, dir, name)
			if !started {
				lines = []string{"# file"}
			}
			compareRecorded(t, name, lines)
		})
	}
}

// sentinel is a service whose check says that all before it were checked.
const sentinel = `
virtual=192.0.2.255:9
	real=192.0.2.254:9 gate
	checktype=external
	checkcommand="%s"
`

// ldirectordLines runs ldirectord until it has checked all realservers once.
func ldirectordLines(t *testing.T, dir, name string) (lines []string, started bool) {
	t.Helper()
	tmp := t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	must(err)
	done := filepath.Join(tmp, "done")
	must(syscall.Mkfifo(done, 0o600))
	must(os.WriteFile(tmp+"/check", []byte("#!/bin/sh\necho checked >"+done+"\n"), 0o755))
	must(os.WriteFile(tmp+"/ldirectord.cf", append(text, fmt.Sprintf(sentinel, tmp+"/check")...), 0o600))
	program, err := os.ReadFile("/proc/self/exe")
	must(err)
	must(os.Mkdir(tmp+"/sbin", 0o755))
	must(os.WriteFile(tmp+"/sbin/ipvsadm", program, 0o755))
	cmd := inNamespace(exec.Command("unshare", "--mount", "sh", "-ec", `
		mount -t tmpfs none /run
		mount --bind "$SBIN" /usr/sbin
		[ -L /sbin ] || mount --bind "$SBIN" /sbin
		exec "$LDIRECTORD" -d "$CONFIG" start`))
	var perl []string
	for _, p := range []string{"usr/share/perl5", "usr/lib/*/perl5/*", "usr/share/perl/*", "usr/lib/*/perl/*"} {
		found, err := filepath.Glob(filepath.Join(dir, p))
		must(err)
		perl = append(perl, found...)
	}
	cmd.Env = append(os.Environ(), "SBIN="+tmp+"/sbin", "CONFIG="+tmp+"/ldirectord.cf", "LDIRECTORD="+filepath.Join(dir, "usr/sbin/ldirectord"),
		"PERL5LIB="+strings.Join(perl, ":"), "IPVSADM_LOG="+tmp+"/log")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 5*time.Second
	pipe, err := os.OpenFile(done, os.O_RDWR, 0) // so that neither side waits for the other to open it
	must(err)
	defer pipe.Close()
	must(cmd.Start())
	checked := make(chan bool, 2)
	go func() {
		_, err := pipe.Read(make([]byte, 1))
		checked <- err == nil
	}()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-checked:
		started = true
	case <-ended:
		if !strings.Contains(said.String(), "Configuration Error") {
			t.Fatalf("ldirectord ended:\n%s", said.String())
		}
	case <-time.After(60 * time.Second):
		t.Errorf("ldirectord does not come to its checks")
	}
	if err := cmd.Process.Kill(); err == nil && started {
		<-ended
	}
	r := replayed(tmp + "/log").r
	r.services = slices.DeleteFunc(r.services, func(s *service) bool { return s.Address.String() == "192.0.2.255" })
	return commands(r), started
}
