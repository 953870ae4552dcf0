package confine

import (
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkCall is a system call of a worker that waits, as it is and with everything given up: the
// rest of this process has to live with that, so it comes last.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct {
		name   string
		before func()
	}{{"free", func() {}}, {"confined", func() { Apply(Policy{Read: []string{"/"}, Write: []string{"/"}}) }}} {
		b.Run(c.name, func(b *testing.B) {
			c.before()
			fds := []unix.PollFd{{Fd: 0, Events: unix.POLLPRI}}
			now := unix.Timespec{}
			for b.Loop() {
				_, _ = unix.Ppoll(fds, &now, nil)
			}
		})
	}
}
