package forwarder

import (
	"testing"

	"pgregory.net/rapid"

	"shunt/forwarder/frame"
)

// A macSet has what was added and not removed, whatever lies in its way.
func TestMACSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, model := newMACSet(), map[frame.MAC]bool{}
		mac := rapid.Custom(func(t *rapid.T) frame.MAC { return frame.MAC{2, 0, 0, 0, 0, rapid.Uint8Max(60).Draw(t, "mac")} })
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				m := mac.Draw(t, "add")
				s.add(m)
				model[m] = true
			},
			"remove": func(t *rapid.T) {
				m := mac.Draw(t, "remove")
				s.remove(m)
				delete(model, m)
			},
			"": func(t *rapid.T) {
				if s.used != len(model) {
					t.Fatalf("%d MACs, want %d", s.used, len(model))
				}
				for i := range 61 {
					if m := (frame.MAC{2, 0, 0, 0, 0, byte(i)}); s.has(m[:]) != model[m] {
						t.Fatalf("has %s: %v, want %v", m, !model[m], model[m])
					}
				}
			},
		})
	})
}
