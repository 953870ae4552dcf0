package forwarder

import "time"

// EstimatePeriod is how often Maintain measures rates (ip_vs_est.c: every two seconds).
const EstimatePeriod = 2 * time.Second

// Rates are what a service or a destination gets at present, averaged over some seconds.
type Rates struct {
	FlowsPerSecond, PacketsPerSecond, BytesPerSecond uint64
}

// estimator is the kernel's (ip_vs_estimation, ip_vs_est.c): every two seconds the average moves by
// a quarter of its distance to what was counted since. Flows and packets are kept with ten binary
// places, bytes with five.
type estimator struct {
	last           Counts
	flows, packets int64
	bytes          int64
}

// add learns the totals at the end of a period.
func (e *estimator) add(c Counts) {
	e.flows += (int64(c.Flows-e.last.Flows)<<9 - e.flows) >> 2
	e.packets += (int64(c.Packets-e.last.Packets)<<9 - e.packets) >> 2
	e.bytes += (int64(c.Bytes-e.last.Bytes)<<4 - e.bytes) >> 2
	e.last = c
}

// rates rounds as the kernel does (ip_vs_read_estimator).
func (e *estimator) rates() Rates {
	return Rates{
		FlowsPerSecond:   uint64(e.flows+0x1ff) >> 10,
		PacketsPerSecond: uint64(e.packets+0x1ff) >> 10,
		BytesPerSecond:   uint64(e.bytes+0xf) >> 5,
	}
}
