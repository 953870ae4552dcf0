package main

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestTimes(t *testing.T) {
	for text, want := range map[string]time.Duration{"5": 5 * time.Second, "0.25": 250 * time.Millisecond, "0": 0, "90s": 90 * time.Second, "1m30s": 90 * time.Second,
		"-1": -time.Second, "": -7, "5x": -7, "NaN": -7, "Inf": -7, "1e30": -7, "5 s": -7} {
		var got time.Duration
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		timeFlag(flags, &got, "wait", 3*time.Second, "")
		err := flags.Parse([]string{"--wait", text})
		if want == -7 {
			if err == nil {
				t.Errorf("%q is taken as %s", text, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
}
