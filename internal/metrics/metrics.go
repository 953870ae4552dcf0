// Package metrics is what a director tells Prometheus. Everything is read when it is asked for, off
// the way of a frame: the collector keeps nothing but the descriptions of the metrics.
//
// docs/monitoring.md lists the metrics; packaging/ has a dashboard and alert rules that use them.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"shunt/api"
)

// Director is what is asked for the figures. It may be called from several goroutines.
type Director interface {
	Overview() api.Overview
}

// NewRegistry returns a registry of its own, with the metrics of d, of the Go runtime and of the
// process.
func NewRegistry(d Director) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{d: d}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler answers scrapes with the metrics of d.
func Handler(d Director) http.Handler {
	r := NewRegistry(d)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r, MaxRequestsInFlight: 4})
}

type collector struct{ d Director }

var _ prometheus.Collector = (*collector)(nil)

// desc makes and remembers the description of a metric.
func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("shunt_"+name, help, labels, nil)
	all = append(all, d)
	return d
}

var all []*prometheus.Desc

var (
	buildInfo = desc("build_info", "A 1 with the version of the program.", "version", "goversion")
	started   = desc("start_time_seconds", "When the director was started.")
	workers   = desc("workers", "Threads that forward.")

	serviceInfo    = desc("service_info", "A 1 for each service, with what it is.", "service", "protocol", "address", "scheduler")
	serviceFlows   = desc("service_flows_total", "Connections scheduled.", "service")
	servicePackets = desc("service_packets_total", "Packets forwarded to realservers.", "service")
	serviceBytes   = desc("service_bytes_total", "Bytes of IP forwarded to realservers.", "service")
	serviceFlowR   = desc("service_flow_rate", "Connections scheduled a second, the average of the last seconds.", "service")
	servicePacketR = desc("service_packet_rate", "Packets forwarded a second, the average of the last seconds.", "service")
	serviceByteR   = desc("service_byte_rate", "Bytes of IP forwarded a second, the average of the last seconds.", "service")

	realFlows     = desc("realserver_flows_total", "Connections scheduled.", "service", "realserver")
	realPackets   = desc("realserver_packets_total", "Packets forwarded.", "service", "realserver")
	realBytes     = desc("realserver_bytes_total", "Bytes of IP forwarded.", "service", "realserver")
	realFlowR     = desc("realserver_flow_rate", "Connections scheduled a second, the average of the last seconds.", "service", "realserver")
	realPacketR   = desc("realserver_packet_rate", "Packets forwarded a second, the average of the last seconds.", "service", "realserver")
	realByteR     = desc("realserver_byte_rate", "Bytes of IP forwarded a second, the average of the last seconds.", "service", "realserver")
	realActive    = desc("realserver_active_connections", "Connections that IPVS calls active: established, or nearly so.", "service", "realserver")
	realInactive  = desc("realserver_inactive_connections", "All other connections.", "service", "realserver")
	realWeight    = desc("realserver_weight", "Its share; 0 gets no new connections.", "service", "realserver")
	realAvailable = desc("realserver_available", "1 if it can take connections: not at its threshold, and its MAC is known.", "service", "realserver")

	frames = desc("frames_total", "Frames by what became of them.", "verdict")

	legUp        = desc("leg_up", "1 if the interface is up.", "leg")
	legReceived  = desc("leg_received_frames_total", "Frames taken from the ring.", "leg")
	legSent      = desc("leg_sent_frames_total", "Frames sent, answers among them.", "leg")
	legUnsent    = desc("leg_unsent_frames_total", "Frames and answers that the interface did not take.", "leg")
	ringDropped  = desc("ring_dropped_frames_total", "Frames to the VIPs that the kernel dropped because the ring was full.", "leg")
	ringOdd      = desc("ring_irregular_frames_total", "Frames larger than a slot (oversize: fetched whole; truncated: not), and damaged slots.", "leg", "kind")
	ringSlots    = desc("ring_slots", "Slots of the receive rings of all workers.", "leg")
	ringSlotsUse = desc("ring_used_slots", "Slots that wait to be read, or are being forwarded.", "leg")

	ringBatches = desc("ring_batches_total", "Batches of frames taken from the rings.", "worker")
	ringMemory  = desc("ring_memory_bytes", "Memory of the rings and of the buffers for large frames.", "worker")

	tableEntries  = desc("table_entries", "Connections and templates in the connection tables.")
	tableCapacity = desc("table_capacity_entries", "Entries that the tables can hold.")
	tableMemory   = desc("table_memory_bytes", "Memory of the tables.")
	tableEvents   = desc("table_events_total", "Entries created, expired, evicted to make room, refused for lack of it; tables truncated by another process.", "event")
	tableProbe    = desc("table_probe_lines", "Mean number of cache lines read to find an entry, 1 to 2, of a sample of the tables; 0 if the sample was empty.")
	tableFull     = desc("table_full_buckets_ratio", "Part of the buckets of a sample of the tables that are full.")

	answers = desc("answers_total", "Resets and unreachables made by the director, and those not made because of their rate.", "result")

	neighbours = desc("neighbours", "Realserver addresses by what is known of their MACs.", "leg", "state")
	arpEvents  = desc("arp_events_total", "Events of ARP and neighbour discovery.", "leg", "event")
	conflicts  = desc("vip_conflicts_total", "Messages of somebody else who claims a VIP.", "leg")

	guardMissing  = desc("guard_missing", "1 while the guard's rules are not in place, though guard: auto.")
	guardRestored = desc("guard_restored_total", "Times that the guard's rules were put back after somebody had taken them away.")
	guardExposed  = desc("guard_exposed_vips", "VIPs that the guard leaves alone, since they are addresses of the host.")

	latency = desc("frame_latency_seconds", "Time of sampled frames in the director, from the kernel's time stamp until they were sent.")

	unkept = desc("unkept", "1 if a restart will lose this though there is a state_dir.", "what")

	reloads    = desc("config_reloads_total", "Times that the configuration was read again.", "result")
	reloadOK   = desc("config_last_reload_successful", "0 if the last reload was refused, else 1.")
	changes    = desc("config_changes", "Changes by the control socket since the configuration was read.")
	driftTotal = desc("config_drift", "Places where what runs differs from the configuration that was read last.")
	reloadTime = desc("config_last_reload_timestamp_seconds", "When the configuration was last read again; the start if it never was.")
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range all {
		ch <- d
	}
}

// sink sends metrics. A set of labels that came before is passed over, as two of one make the whole
// answer an error.
type sink struct {
	ch   chan<- prometheus.Metric
	seen map[string]bool
}

func (s *sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s *sink) counter(d *prometheus.Desc, n uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

// first reports whether the name did not come before.
func (s *sink) first(name string) bool {
	again := s.seen[name]
	s.seen[name] = true
	return !again
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	o := c.d.Overview()
	s := &sink{ch: ch, seen: map[string]bool{}}
	s.gauge(buildInfo, 1, o.Version, runtime.Version())
	s.gauge(started, float64(o.Started.UnixMilli())/1e3)
	s.gauge(workers, float64(o.Workers))
	s.services(o.Services)
	for v, n := range o.Verdicts {
		s.counter(frames, n, v)
	}
	s.legs(&o)
	for i, r := range o.Rings {
		worker := strconv.Itoa(i)
		s.counter(ringBatches, r.Batches, worker)
		s.gauge(ringMemory, float64(r.Bytes), worker)
	}
	s.table(&o)
	s.counter(answers, o.Answers.Sent, "sent")
	s.counter(answers, o.Answers.Limited, "limited")
	if g := o.Guard; g != nil {
		s.gauge(guardMissing, truth(g.Missing != "" || g.Error != ""))
		s.counter(guardRestored, g.Restored)
		s.gauge(guardExposed, float64(len(g.Exposed)))
	}
	s.latency(&o.Latency)
	s.gauge(unkept, truth(o.Unkept.Connections != ""), "connections")
	s.gauge(unkept, truth(o.Unkept.Changes != ""), "changes")
	s.counter(reloads, o.Reloads, "success")
	s.counter(reloads, o.Reload.Failures, "failure")
	s.gauge(reloadOK, truth(o.Reload.Error == ""))
	s.gauge(changes, float64(o.Changes))
	s.gauge(driftTotal, float64(o.Drift.Total))
	last := o.Reload.Last
	if last.IsZero() {
		last = o.Started
	}
	s.gauge(reloadTime, float64(last.UnixMilli())/1e3)
}

func (s *sink) services(services []api.Service) {
	for i := range services {
		v := &services[i]
		if !s.first(v.Name) {
			continue
		}
		s.gauge(serviceInfo, 1, v.Name, v.Protocol, v.Address.String(), v.Scheduler)
		s.counter(serviceFlows, v.Counts.Flows, v.Name)
		s.counter(servicePackets, v.Counts.Packets, v.Name)
		s.counter(serviceBytes, v.Counts.Bytes, v.Name)
		s.gauge(serviceFlowR, float64(v.Rates.Flows), v.Name)
		s.gauge(servicePacketR, float64(v.Rates.Packets), v.Name)
		s.gauge(serviceByteR, float64(v.Rates.Bytes), v.Name)
		for j := range v.Realservers {
			r := &v.Realservers[j]
			at := r.Address.String()
			if !s.first(v.Name + "\x00" + at) {
				continue
			}
			s.counter(realFlows, r.Counts.Flows, v.Name, at)
			s.counter(realPackets, r.Counts.Packets, v.Name, at)
			s.counter(realBytes, r.Counts.Bytes, v.Name, at)
			s.gauge(realFlowR, float64(r.Rates.Flows), v.Name, at)
			s.gauge(realPacketR, float64(r.Rates.Packets), v.Name, at)
			s.gauge(realByteR, float64(r.Rates.Bytes), v.Name, at)
			s.gauge(realActive, float64(r.Active), v.Name, at)
			s.gauge(realInactive, float64(r.Inactive), v.Name, at)
			s.gauge(realWeight, float64(r.Weight), v.Name, at)
			s.gauge(realAvailable, truth(r.Available), v.Name, at)
		}
	}
}

func (s *sink) legs(o *api.Overview) {
	known := map[[2]string]int{}
	for _, n := range o.Neighbours {
		known[[2]string{n.Leg, string(n.State)}]++
	}
	for i := range o.Legs {
		l := &o.Legs[i]
		s.gauge(legUp, truth(l.Up), l.Name)
		s.counter(legReceived, l.Received, l.Name)
		s.counter(legSent, l.Sent, l.Name)
		s.counter(legUnsent, l.NotSent, l.Name)
		s.counter(ringDropped, l.RingFull, l.Name)
		s.gauge(ringSlots, float64(l.Slots), l.Name)
		s.gauge(ringSlotsUse, float64(l.InUse), l.Name)
		s.counter(ringOdd, l.Oversize, l.Name, "oversize")
		s.counter(ringOdd, l.Truncated, l.Name, "truncated")
		s.counter(ringOdd, l.Damaged, l.Name, "damaged")
		for _, state := range api.NeighbourStates() { // so that one that is empty is 0 and not absent
			s.gauge(neighbours, float64(known[[2]string{l.Name, string(state)}]), l.Name, string(state))
		}
		s.arp(l.Name, &l.ARP)
	}
}

func (s *sink) arp(leg string, c *api.ARPCounters) {
	for _, e := range []struct {
		event string
		n     uint64
	}{
		{"received", c.Received}, {"malformed", c.Malformed}, {"answered", c.Answered}, {"limited", c.Limited}, {"announced", c.Announced},
		{"probed", c.Probed}, {"asked", c.Asked}, {"learnt", c.Learnt}, {"changes", c.Changed}, {"failures", c.Failures},
		{"disputes", c.Disputes}, {"excess", c.Excess}, {"errors", c.Errors}, {"dropped", c.Dropped},
	} {
		s.counter(arpEvents, e.n, leg, e.event)
	}
	s.counter(conflicts, c.Conflicts, leg)
}

func (s *sink) table(o *api.Overview) {
	s.gauge(tableEntries, float64(o.Flows))
	s.gauge(tableCapacity, float64(o.Capacity))
	s.gauge(tableMemory, float64(o.Table.Bytes))
	s.counter(tableEvents, o.Table.Created, "created")
	s.counter(tableEvents, o.Table.Expired, "expired")
	s.counter(tableEvents, o.Table.Evicted, "evicted")
	s.counter(tableEvents, o.Table.Refused, "refused")
	s.counter(tableEvents, o.Table.Cut, "cut")
	s.gauge(tableProbe, o.Probes.Mean)
	s.gauge(tableFull, o.Probes.Full)
}

func (s *sink) latency(l *api.Latency) {
	buckets := make(map[float64]uint64, len(l.Bounds))
	var sum uint64
	for i, n := range l.Counts {
		sum += n
		if i < len(l.Bounds) {
			buckets[l.Bounds[i]] = sum
		}
	}
	s.ch <- prometheus.MustNewConstHistogram(latency, sum, l.Sum, buckets)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
