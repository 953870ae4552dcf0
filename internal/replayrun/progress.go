package replayrun

import (
	"fmt"
	"io"
	"sync"
	"time"

	"shunt/forwarder/replay"
)

const (
	quiet = time.Second // a replay that takes no longer says nothing
	beat  = 200 * time.Millisecond
)

// showProgress tells on a terminal how far the replay is, on one line that stop takes away again.
func showProgress(w io.Writer, src *replay.Source, start time.Time) (stop func()) {
	if w == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		shown := false
		for {
			select {
			case <-done:
				if shown {
					fmt.Fprint(w, "\r\x1b[K")
				}
				return
			case now := <-tick.C:
				if took := now.Sub(start); took > quiet {
					fmt.Fprintf(w, "\r\x1b[K%s", progress(src, took))
					shown = true
				}
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// progress is the line: how much of how much, and how long it will take.
func progress(src *replay.Source, took time.Duration) string {
	read, size := src.Progress()
	if size == 0 || read == 0 || read > size {
		return fmt.Sprintf("%s read", bytesOf(read))
	}
	left := time.Duration(float64(took) * float64(size-read) / float64(read))
	return fmt.Sprintf("%3d %% of %s, %s left", read*100/size, bytesOf(size), left.Round(time.Second))
}

// bytesOf writes a number of bytes for a person.
func bytesOf(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
