package ring

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// BenchmarkWalk takes and gives back slots of plain memory: what a frame costs without the kernel.
func BenchmarkWalk(b *testing.B) {
	w, k := newRing(DefaultSlots, DefaultSlotSize, 4096)
	for k.put(whole(60), nil) {
	}
	const batch = 64
	at := k.next
	var s slot
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if w.take(&s) != good {
			b.Fatal("nothing to take")
		}
		if n++; n == batch {
			n = 0
			w.giveBack()
			for range batch { // the kernel, as short as can be: the headers are still there
				storeStatus(w.mem, at.off, unix.TP_STATUS_USER)
				w.step(&at)
			}
		}
	}
}

// BenchmarkForward takes frames in by one leg and sends them out by another, in bursts. Most of the
// time goes to the kernel and to the sender: forward-ns/frame is what Next and Send take of it.
func BenchmarkForward(b *testing.B) {
	for _, c := range []struct {
		name    string
		payload int
		super   bool
		untimed bool // no frame's time in the director is taken
	}{
		{"64", 22, false, false},
		{"64-untimed", 22, false, true},
		{"1500", 1458, false, false},
		{"super", 14_480, true, false},
	} {
		for _, p := range []Preset{Balanced, Latency, Powersave} {
			b.Run(c.name+"/"+p.String(), func(b *testing.B) {
				wires := newLab(b, 2)
				in, out := wires[0], wires[1]
				// Nobody reads at the far ends.
				for _, w := range wires {
					if err := attachFilter(w.fd, rejectAll()); err != nil {
						b.Fatal(err)
					}
				}
				e := open(b, Config{Legs: []LegConfig{in.leg(0), out.leg(1)}, Busy: p, NoLatency: c.untimed}, vip4)
				sender := open(b, Config{Legs: []LegConfig{{Leg: 0, Name: in.peer.Attrs().Name}}})
				data := in.frame(datagram(vip4, c.payload))
				head := noHeader[:]
				if c.super {
					head, data = super(in, 1448, c.payload)
				}
				// As many as any preset wants in a batch: with less it would wait for frames that
				// only we could send.
				burst := make([]frame.Frame, 64)
				for i := range burst {
					burst[i] = frame.Frame{Buf: append(append([]byte(nil), head...), data...), Head: vnetLen, Out: 0}
				}
				batch := make([]frame.Frame, 256)
				var frames, lost int
				var spent time.Duration
				b.ReportAllocs()
				b.SetBytes(int64(len(data) * len(burst)))
				for b.Loop() {
					want := frames + len(burst) - int(sender.Send(burst).Total())
					start := time.Now()
					for frames < want {
						n, _, err := e.Next(batch)
						if err != nil {
							b.Fatal(err)
						}
						for i := range batch[:n] {
							batch[i].Out = 1
						}
						lost += int(e.Send(batch[:n]).Total())
						if frames += n; n == 0 && time.Since(start) > patient {
							b.Fatalf("%d frames did not come: %+v", want-frames, e.Stats())
						}
					}
					spent += time.Since(start)
				}
				b.ReportMetric(float64(spent.Nanoseconds())/float64(max(frames, 1)), "forward-ns/frame")
				if lost > 0 {
					b.ReportMetric(float64(lost)/float64(frames), "lost/frame")
				}
			})
		}
	}
}
