package replayrun

import (
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/internal/config"
)

// Explain tells what a director of this configuration would do with a packet of tuple t that begins a connection, when
// nothing has happened yet and all realservers answer.
func Explain(cfg *config.Config, t frame.Tuple) (forwarder.Explanation, error) {
	b, err := build(cfg, 0)
	if err != nil {
		return forwarder.Explanation{}, err
	}
	x := b.engine.Explain(0, t)
	return x, b.engine.Close()
}
