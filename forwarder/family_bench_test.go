package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// BenchmarkFamily measures the way of a frame of a known flow for both families, over the same frames otherwise: one after
// the other from each of many clients, to 16 realservers. IPv6 is to take no more than 1.3 times what IPv4 takes; compare
// medians of runs in turns. cpu-ns/frame leaves out the time in which the thread did not run.
func BenchmarkFamily(b *testing.B) {
	for _, flows := range []int{64, 65536, benchFlows} {
		for _, family := range []struct {
			name string
			talk talk
			src  int // where the last four bytes of the client's address are
		}{{"IPv4", talk4(40000, 80), 26}, {"IPv6", talk6(40000, 80), 34}} {
			b.Run(fmt.Sprintf("flows=%d/%s", flows, family.name), func(b *testing.B) {
				r := newRig(b, func(c *forwarder.Config) { c.Flows, c.Exact, c.Clock = benchFlows*5/4, false, time.Now })
				b.Cleanup(func() { r.must(r.Close()) })
				var servers []int
				for n := range 16 {
					servers = append(servers, n+1)
				}
				r.serve(service("TCP "+family.talk.virtual.String(), "wrr"), servers...)
				heads(r, 1) // behind the other leg
				from := func(f frame.Frame, client uint32) {
					binary.BigEndian.PutUint32(f.Buf[family.src:], 100<<24|client)
					if f.Buf[12] == 0x08 {
						f.Buf[24], f.Buf[25] = 0, 0
						binary.BigEndian.PutUint16(f.Buf[24:], checksum(f.Buf[14:34], 0))
					}
				}
				for _, flags := range []uint8{frame.SYN, frame.ACK} {
					one := newReel(family.talk.tcp(flags))
					for client := range uint32(flows) {
						from(one.batch[0], client)
						r.Worker(0).Process(one.rewind(), r.now)
					}
				}
				const slot = 128
				model := family.talk.tcp(frame.ACK)
				memory := make([]byte, slot*flows)
				frames := make([]frame.Frame, flows)
				for i := range frames {
					frames[i] = model
					frames[i].Buf = memory[i*slot : i*slot+copy(memory[i*slot:], model.Buf)]
					from(frames[i], uint32(i))
				}
				var batch [forwarder.BatchSize]frame.Frame
				next, given, before := 0, 0, r.Stats().Verdicts[forwarder.Forwarded]
				b.ReportAllocs()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				began := cpuTime(b)
				for b.Loop() {
					n := copy(batch[:], frames[next:])
					for i := range batch[:n] {
						copy(batch[i].Buf[0:6], legMAC[0][:])
					}
					if next += n; next == len(frames) {
						next = 0
					}
					given += n
					r.now += 6400
					r.Worker(0).Process(batch[:n], r.now)
				}
				b.ReportMetric(float64(cpuTime(b)-began)/float64(given), "cpu-ns/frame")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(given), "ns/frame")
				if got := r.Stats().Verdicts[forwarder.Forwarded] - before; got != uint64(given) {
					b.Fatalf("of %d frames %d were forwarded", given, got)
				}
			})
		}
	}
}

// cpuTime is the time that this thread has run, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}
