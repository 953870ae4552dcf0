package replayrun

import (
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// Explain returns the decision of a director with this configuration for a packet of tuple t that
// starts a connection. The director has no state yet, and all realservers answer ARP.
func Explain(cfg *config.Config, t frame.Tuple) (forwarder.Explanation, error) {
	b, err := build(cfg, 0)
	if err != nil {
		return forwarder.Explanation{}, err
	}
	x := b.engine.Explain(0, t)
	return x, b.engine.Close()
}
