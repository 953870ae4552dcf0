package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"shunt/internal/replaybench"
)

// What two workers do to each other, and how long the garbage collector stops one, is partly the
// machine's: its processors may be two halves of one, and slow to wake each other. So both are
// measured without the engine too, in the same rounds.

// apart is a process of its own with one worker. Two of them have nothing in common but the
// machine.
type apart struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// apartFlag has this program be such a process: it is followed by a number of flows.
const apartFlag = "--apart"

func startApart(flows int) (*apart, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, apartFlag, fmt.Sprint(flows))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &apart{cmd, in, json.NewDecoder(out)}, cmd.Start()
}

// Run is that of its Lender.
func (a *apart) Run(frames uint64) (c replaybench.Cost, err error) {
	if _, err := fmt.Fprintln(a.in, frames); err != nil {
		return c, err
	}
	err = a.out.Decode(&c)
	return c, err
}

func (a *apart) close() error { return errors.Join(a.in.Close(), a.cmd.Wait()) }

// serveApart is what such a process does: it runs so many frames as each line says, and tells what
// they cost, until there are no more lines.
func serveApart(flows int, in io.Reader, out io.Writer) error {
	r, err := replaybench.NewRig(replaybench.Setup{Realservers: 16, Flows: max(flows, 1024)})
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Establish(0, flows); err != nil {
		return err
	}
	l := r.LendRandom(0, uint32(flows))
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var frames uint64
		if _, err := fmt.Sscan(lines.Text(), &frames); err != nil {
			return err
		}
		c, err := l.Run(frames)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(out).Encode(c); err != nil {
			return err
		}
	}
	return nil
}

// count is work for which there is no engine, and no memory: some 10 us of it.
func count() error {
	for end := time.Now().Add(10 * time.Microsecond); time.Now().Before(end); {
	}
	return nil
}
