package director

import (
	"context"
	"time"

	"shunt/internal/ipvsadm"
)

const (
	procEvery = time.Second
	// procShare bounds what writing costs: it takes one part in so many of the time, and is done
	// less often if it takes longer.
	procShare = 20
	// maxProcConnections is how many connections are listed: more would be a file of many
	// megabytes, and thrown away soon.
	maxProcConnections = 100_000
)

// procFiles keeps the kernel's files about IPVS up to date below proc_dir, until ctx is done; then
// they are removed, since what they say is not so any more.
func (d *Director) procFiles(ctx context.Context, dir string) {
	defer func() {
		if err := ipvsadm.RemoveProc(dir); err != nil {
			d.log.Warn("files in proc_dir could not be removed", "error", err)
		}
	}()
	wait := time.NewTimer(0)
	defer wait.Stop()
	failing, many := false, false
	var connectionsAt time.Time // when they may be listed again
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		began := time.Now()
		now := d.Table()
		err := ipvsadm.WriteProc(dir, &now, nil)
		took := time.Since(began)
		if over := d.engine.Stats().Flows > maxProcConnections; over != many {
			if many = over; many {
				d.log.Warn("too many connections: proc_dir has no net/ip_vs_conn", "more_than", maxProcConnections)
				_ = ipvsadm.RemoveProc(dir, "ip_vs_conn")
			}
		}
		if began := time.Now(); err == nil && !many && began.After(connectionsAt) {
			err = ipvsadm.WriteProc(dir, nil, d.Connections)
			connectionsAt = time.Now().Add(procShare * time.Since(began))
		}
		wait.Reset(max(procEvery-time.Since(began), procShare*took))
		if err != nil && !failing {
			d.log.Error("proc_dir is not up to date", "error", err)
		}
		failing = err != nil
	}
}
