package forwarder

// A client whose SYN is not answered repeats it. So repeated SYNs of flows that never came further
// tell that their realserver may be gone. A worker notes which, at no cost to other frames; who
// asks for Suspects has to find out.

// suspects are destinations plus one, each in the place that its number gives; of two in one place
// the last stays.
type suspects [64]uint32

func (s *suspects) note(dest uint32) { s[dest%uint32(len(s))] = dest + 1 }

// Suspects lists where realservers live that clients had to repeat a SYN to since the last call,
// each once, though not all of them if they are many. They may be well: the answer may have been
// lost, or the client has never sent the rest. It may be called from any goroutine.
func (c *Control) Suspects() (out []Hop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[Hop]bool{}
	for _, w := range c.workers {
		var noted suspects
		w.Do(func() { noted, w.suspects = w.suspects, suspects{} })
		for _, n := range noted {
			if n == 0 || int(n) > len(c.dests) || c.dests[n-1] == nil {
				continue
			}
			d := c.dests[n-1]
			if h := d.spec.hop(); !seen[h] {
				seen[h] = true
				out = append(out, h)
			}
		}
	}
	return out
}
