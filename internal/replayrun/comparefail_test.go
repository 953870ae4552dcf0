package replayrun_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"shunt/forwarder/replay"
	"shunt/internal/replayrun"
)

// A comparison that fails tells why, and one of nothing is no failure.
func TestCompareFailures(t *testing.T) {
	cfg := load(t, "testdata/mixed.yaml")
	opt := func(in string) replayrun.CompareOptions {
		return replayrun.CompareOptions{Options: replayrun.Options{Config: cfg, Input: in}, Second: cfg}
	}
	var damage *replay.DamageError
	if c, err := replayrun.Compare(t.Context(), opt(copyTo(t, 5000))); !errors.As(err, &damage) || c == nil || c.Capture.Packets+1 != damage.Packet || c.Capture.Damage == "" {
		t.Errorf("error %v over a damaged capture: %+v", err, c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := replayrun.Compare(ctx, opt(copyTo(t, 1<<20))); err == nil || !strings.Contains(err.Error(), "the replay was interrupted") {
		t.Errorf("error %v of an interrupted comparison", err)
	}
	bad := opt(copyTo(t, 1<<20))
	bad.Second = parse(t, "legs: [{interface: a, networks: [10.1.0.0/24]}]\nservices:\n  - {address: 203.0.113.10, port: 80, realservers: [{address: 10.0.0.11}]}\n")
	if _, err := replayrun.Compare(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "10.0.0.11") {
		t.Errorf("error %v for a second configuration that is wrong", err)
	}
	c, err := replayrun.Compare(t.Context(), opt(copyTo(t, 24)))
	if err != nil {
		t.Fatal(err)
	}
	adds(t, c)
	var b bytes.Buffer
	if err := c.WriteJSON(&b); err != nil || bytes.Contains(b.Bytes(), []byte(": null")) {
		t.Errorf("a list is null, or error %v:\n%s", err, &b)
	}
	if c.WriteText(broken{}) == nil || c.WriteJSON(broken{}) == nil {
		t.Error("an error of the writer is lost")
	}
}
