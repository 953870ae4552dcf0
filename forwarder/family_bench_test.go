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

// BenchmarkFamily measures the way of a frame of a known flow for both families, over the same
// frames otherwise: one after the other from each of many clients, to 16 realservers. IPv6 is to
// take no more than 1.3 times what IPv4 takes; compare medians of runs in turns. cpu-ns/frame
// leaves out the time in which the thread did not run.
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
				// Slots as in a ring: few enough for the cache, and filled while the clock stands,
				// as a kernel has just written what is in one. Frames that lie in memory of their
				// own for each flow would be another benchmark: how long the memory takes to give
				// 60 bytes, or 74.
				const slot, slots = 128, 2048
				model := family.talk.tcp(frame.ACK)
				memory := make([]byte, slot*slots)
				frames := make([]frame.Frame, slots)
				for i := range frames {
					frames[i] = model
					frames[i].Buf = memory[i*slot : i*slot+copy(memory[i*slot:], model.Buf)]
				}
				next, given, before := 0, 0, r.Stats().Verdicts[forwarder.Forwarded]
				cpu, wall := int64(0), time.Duration(0)
				b.ReportAllocs()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				for b.Loop() {
					for i := range frames {
						copy(frames[i].Buf[0:6], legMAC[0][:])
						from(frames[i], uint32(next%flows))
						next++
					}
					began, start := cpuTime(b), time.Now()
					for at := 0; at < slots; at += forwarder.BatchSize {
						r.now += 6400
						r.Worker(0).Process(frames[at:at+forwarder.BatchSize], r.now)
					}
					cpu += cpuTime(b) - began
					wall += time.Since(start)
					given += slots
				}
				b.ReportMetric(float64(cpu)/float64(given), "cpu-ns/frame")
				b.ReportMetric(float64(wall.Nanoseconds())/float64(given), "ns/frame")
				b.ReportMetric(0, "ns/op") // filling the slots would be in it
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
