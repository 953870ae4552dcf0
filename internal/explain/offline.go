package explain

import (
	"context"

	"shunt/api"
	"shunt/forwarder/frame"
	"shunt/internal/config"
	"shunt/internal/replayrun"
)

// Offline explains the decision of a director that has just started with the configuration at path.
func Offline(ctx context.Context, path, packet string) (api.Explanation, error) {
	t, err := frame.ParseTuple(packet)
	if err != nil {
		return api.Explanation{}, err
	}
	cfg, err := config.Load(ctx, path)
	if err != nil {
		return api.Explanation{}, err
	}
	x, err := replayrun.Explain(cfg, t)
	if err != nil {
		return api.Explanation{}, err
	}
	out := Of(&x)
	out.MAC = "" // it was made up: nobody was asked for it
	return out, nil
}
