package director

import (
	"context"
	"time"
)

// Watchdog calls alive every interval, as long as every worker answers: the question goes to each
// by the mail that it reads between two batches. A worker that is stuck lets it fall silent, and
// systemd ends the director (WatchdogSec= in systemd.service(5)). It returns when ctx is done.
func (d *Director) Watchdog(ctx context.Context, interval time.Duration, alive func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	answered := make(chan struct{}, 1)
	asking := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-answered:
			asking = false
			alive()
		case <-tick.C:
			if asking {
				continue
			}
			asking = true
			go func() {
				d.engine.Stats()
				answered <- struct{}{}
			}()
		}
	}
}
