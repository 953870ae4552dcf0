package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"shunt/api"
	"shunt/forwarder"
	"shunt/forwarder/frame"
	"shunt/forwarder/ring"
)

// A validator turns a file into a Config and collects what is wrong with it. Paths are such as
// $.services[0].port.
type validator struct {
	src    *source         // nil: errors have no place
	failed map[string]bool // paths of what could not be read, which is told already
	errs   int
}

func (v *validator) wrong(path, format string, args ...any) {
	v.errs++
	if v.src != nil && v.src.full() {
		v.src.problems.more++
	} else if v.src != nil && !v.failed[path] {
		d, n := v.src.find(path)
		v.src.add(d, n, format, args...)
	}
}

// missing is wrong about a key that is not there, and was not told to be wrong either.
func (v *validator) missing(path, key, format string, args ...any) {
	v.errs++
	if !v.failed[path+"."+key] && !v.failed[path] {
		v.wrong(path, format, args...)
	}
}

func upTo(high int64) forwarder.Range { return forwarder.Range{Low: 0, High: high} }

func between(low, high int64) forwarder.Range { return forwarder.Range{Low: low, High: high} }

func span(low, high time.Duration) forwarder.Span { return forwarder.Span{Low: low, High: high} }

func (v *validator) config(f *file) *Config {
	c := &Config{
		Flows:   int(v.number("$.flows", f.Flows, DefaultFlows, between(MinFlows, MaxFlows))),
		Workers: int(v.number("$.workers", f.Workers, 1, between(1, MaxWorkers))),
		Ring: Ring{
			Slots:    int(v.number("$.ring.slots", f.Ring.Slots, ring.DefaultSlots, between(ring.MinSlots, ring.MaxSlots))),
			SlotSize: int(v.number("$.ring.slot_size", f.Ring.SlotSize, ring.DefaultSlotSize, between(ring.MinSlotSize, ring.MaxSlotSize))),
			Busy:     v.choice("$.ring.busy", f.Ring.Busy, "balanced", "latency", "powersave"),
			Spin:     v.replacement("$.ring.spin", f.Ring.Spin, ring.MaxSpin),
			Gather:   v.replacement("$.ring.gather", f.Ring.Gather, ring.MaxGather),
		},
		ARP: ARP{
			Announce: v.duration("$.arp.announce", f.ARP.Announce, DefaultAnnounce, span(0, 24*time.Hour)),
			Refresh:  v.duration("$.arp.refresh", f.ARP.Refresh, DefaultRefresh, span(time.Second, time.Hour)),
			Watch:    v.duration("$.arp.watch", f.ARP.Watch, DefaultWatch, span(0, 24*time.Hour)),
			Learn:    f.ARP.Learn,
		},
		Log: v.log(&f.Log),
	}
	c.Ring.CPUs = v.cpus(f.Ring.CPUs, c.Workers)
	if c.Ring.Slots*c.Ring.SlotSize > ring.MaxRing {
		v.wrong("$.ring.slots", "%d slots of %d bytes are %d MiB: a ring may have %d MiB", c.Ring.Slots, c.Ring.SlotSize,
			c.Ring.Slots*c.Ring.SlotSize>>20, ring.MaxRing>>20)
	}
	c.Guard, c.Confine = v.auto("guard", f.Guard), v.auto("confine", f.Confine)
	c.Control = v.control(&f.Control)
	c.HTTP.Listen = v.listen("$.http.listen", f.HTTP.Listen)
	if c.HTTP.WebConfig = f.HTTP.WebConfig; c.HTTP.WebConfig != "" && !strings.HasPrefix(c.HTTP.WebConfig, "/") {
		v.wrong("$.http.web_config", "the file %q must be an absolute path", c.HTTP.WebConfig)
	}
	if c.ProcDir = f.ProcDir; c.ProcDir == "off" {
		c.ProcDir = ""
	}
	if c.ProcDir != "" && (!strings.HasPrefix(c.ProcDir, "/") || c.ProcDir == "/proc" || strings.HasPrefix(c.ProcDir, "/proc/")) {
		v.wrong("$.proc_dir", "the directory %q must be an absolute path that is not below /proc, or off", c.ProcDir)
	}
	c.StateDir = v.stateDir(f.StateDir, c.Control.Socket)
	v.duration("$.ipvs.lblc_expiration", f.IPVS.LblcExpiration, 0, forwarder.Expirations) // also if no service has them
	v.duration("$.ipvs.lblcr_expiration", f.IPVS.LblcrExpiration, 0, forwarder.Expirations)
	c.Settings = v.settings(f)
	c.Legs = v.legs(f.Legs)
	c.Services = v.services(f, c.Legs)
	c.static, c.placed = map[netip.Addr]frame.MAC{}, make(map[netip.Addr]*Realserver, f.realservers())
	for i := range c.Services {
		for j := range c.Services[i].Realservers {
			r := &c.Services[i].Realservers[j]
			if !r.MAC.IsZero() {
				c.static[r.Address] = r.MAC
			}
			if r.Leg != "" {
				c.placed[r.Address] = r
			}
		}
	}
	if c.Workers > 1 {
		for i := range c.Services {
			if s := &c.Services[i]; s.MaskBits != 0 && (s.V6 && s.MaskBits < 128 || !s.V6 && s.MaskBits < 32) {
				v.wrong(s.path+".persistence_mask", "clients of one prefix are spread over the workers, each of which has its own templates: "+
					"with a mask, write workers: 1")
			}
		}
	}
	return c
}

// replacement reads a time that replaces one of a preset: 0 where nothing is written, negative
// where 0 is.
func (v *validator) replacement(path string, x scalar, high time.Duration) time.Duration {
	if !x.set {
		return 0
	}
	if d := v.duration(path, x, 0, span(0, high)); d > 0 {
		return d
	}
	return -1
}

// maxCPU bounds the number of a processor: the kernel's sets have 1024.
const maxCPU = 1023

// cpus reads the processors of the workers. Whether this host has them is seen at the start.
func (v *validator) cpus(list []scalar, workers int) (cpus []int) {
	if len(list) != 0 && len(list) != workers {
		v.wrong("$.ring.cpus", "cpus names %d, and workers is %d: name one processor for each worker", len(list), workers)
	}
	for i, x := range list {
		n, ok := integer(x.text)
		if !ok || upTo(maxCPU).Check("", n) != nil {
			v.wrong(fmt.Sprintf("$.ring.cpus[%d]", i), "processor %s: it must be a whole number from 0 to %d", x.text, maxCPU)
		}
		cpus = append(cpus, int(n))
	}
	return cpus
}

func (v *validator) log(f *logFile) Log {
	l := Log{Format: v.choice("$.log.format", f.Format, "auto", "text", "json")}
	switch v.choice("$.log.level", f.Level, "info", "debug", "warn", "error") {
	case "debug":
		l.Level = slog.LevelDebug
	case "warn":
		l.Level = slog.LevelWarn
	case "error":
		l.Level = slog.LevelError
	}
	return l
}

// directorName is the name of one of several directors of a host, after which its socket and its
// state are called.
var directorName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (v *validator) control(f *controlFile) Control {
	c := Control{Socket: DefaultSocket, Mode: v.mode("$.control.mode", f.Mode), Group: f.Group}
	if f.Socket != "" {
		c.Socket = v.socket("$.control.socket", f.Socket)
	}
	r := &f.ReadOnly
	c.ReadOnly = Socket{Socket: v.socket("$.control.read_only.socket", r.Socket), Mode: v.mode("$.control.read_only.mode", r.Mode), Group: r.Group}
	switch {
	case c.ReadOnly.Socket == "" && r.Socket != "off" && *r != socketFile{}:
		v.wrong("$.control.read_only", "the socket has no place: write socket: and a name or a path")
	case c.ReadOnly.Socket == "":
		c.ReadOnly = Socket{}
	case c.ReadOnly.Socket == c.Socket:
		v.wrong("$.control.read_only.socket", "%s is the control socket already: name another", c.Socket)
	}
	return c
}

// socket reads the place of a socket: a path, the name of a director, or off.
func (v *validator) socket(path, s string) string {
	switch {
	case s == "" || s == "off":
		return ""
	case directorName.MatchString(s):
		return api.SocketOf(s)
	case !strings.HasPrefix(s, "/"):
		v.wrong(path, "the socket %q must be an absolute path, a name of letters, digits, - and _, or off", s)
	case len(s) > 107:
		v.wrong(path, "the path of the socket has %d bytes; the kernel allows 107", len(s))
	}
	return s
}

// mode reads the permissions of a socket.
func (v *validator) mode(path string, x scalar) fs.FileMode {
	if !x.set {
		return 0o660
	}
	// Without quotes 0660 is octal to some readers of YAML and decimal to others.
	m, err := strconv.ParseUint(x.text, 8, 32)
	if !x.quoted || err != nil || m > 0o777 {
		v.wrong(path, "mode %s: write permissions as octal digits in quotes, such as \"0660\"", x.text)
	}
	return fs.FileMode(m)
}

// listen understands a port, which is one of the loopback interface, and an address with one.
func (v *validator) listen(path string, x scalar) string {
	text := x.text
	if text == "" || text == "off" || text == "false" {
		return ""
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = "127.0.0.1", text
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if host == "" {
		v.wrong(path, "%q would listen on all addresses: write the port alone for 127.0.0.1, or 0.0.0.0:%s if everybody may look", text, port)
		return ""
	}
	if _, bad := netip.ParseAddr(host); bad != nil || err != nil || n == 0 {
		v.wrong(path, "%q is not where one can listen: write a port, such as 9405, or an address and a port, such as 10.0.0.2:9405 or [fd00::2]:9405", text)
		return ""
	}
	return net.JoinHostPort(host, port)
}

// stateDir is beside the control socket and has its name, so that several directors of one host
// have several.
func (v *validator) stateDir(dir, socket string) string {
	switch {
	case dir == "off":
		return ""
	case dir == "" && socket == "":
		return DefaultState
	case dir == "":
		return strings.TrimSuffix(socket, ".sock") + ".state"
	case !strings.HasPrefix(dir, "/"):
		v.wrong("$.state_dir", "the directory %q must be an absolute path, or off", dir)
	}
	return dir
}

func (v *validator) settings(f *file) forwarder.Settings {
	s, i := forwarder.DefaultSettings(), &f.IPVS
	s.SloppyTCP, s.SloppySCTP = i.SloppyTCP, i.SloppySCTP
	s.ExpireNodestConn, s.ExpireQuiescentTemplate = i.ExpireNodestConn, i.ExpireQuiescentTemplate
	s.ScheduleICMP = i.ScheduleICMP
	s.ConnReuseMode = int(v.number("$.ipvs.conn_reuse_mode", i.ConnReuseMode, int64(s.ConnReuseMode), forwarder.ReuseModes))
	s.DropEntry = int(v.number("$.ipvs.drop_entry", i.DropEntry, 0, forwarder.DropModes))
	s.DropPacket = int(v.number("$.ipvs.drop_packet", i.DropPacket, 0, forwarder.DropModes))
	s.AmDroprate = int(v.number("$.ipvs.am_droprate", i.AmDroprate, int64(s.AmDroprate), forwarder.AmDroprates))
	s.SecureTCP = int(v.number("$.ipvs.secure_tcp", i.SecureTCP, 0, forwarder.DropModes))
	s.TCPTimeout = v.duration("$.ipvs.timeouts.tcp", i.Timeouts.TCP, 0, forwarder.Timeouts)
	s.TCPFinTimeout = v.duration("$.ipvs.timeouts.tcpfin", i.Timeouts.TCPFin, 0, forwarder.Timeouts)
	s.UDPTimeout = v.duration("$.ipvs.timeouts.udp", i.Timeouts.UDP, 0, forwarder.Timeouts)
	s.Source = map[string]forwarder.SourcePolicy{
		"preserve": forwarder.SourcePreserve, "own": forwarder.SourceOwn,
	}[v.choice("$.source_mac", f.SourceMAC, "auto", "preserve", "own")]
	s.Gone = map[string]forwarder.GonePolicy{
		"reschedule": forwarder.GoneReschedule, "reset": forwarder.GoneReset,
	}[v.choice("$.when_gone", f.WhenGone, "drop", "reschedule", "reset")]
	s.RefuseWhenFull = v.choice("$.table_full", f.TableFull, "evict", "refuse") == "refuse"
	s.StrayICMP = v.choice("$.stray_icmp", f.StrayICMP, "forward", "drop") == "forward"
	s.StrictRST = f.StrictRST == nil || *f.StrictRST
	s.Silent = f.Answer != nil && !*f.Answer
	return s
}

func (v *validator) legs(files []legFile) []Leg {
	if len(files) == 0 {
		v.missing("$", "legs", "there are no legs: name at least one interface, as in\nlegs:\n  - interface: eth0")
	}
	if len(files) > 32 {
		v.wrong("$.legs", "there are %d legs; a director has 32 at most", len(files))
	}
	var legs []Leg
	names, interfaces, shared := map[string]bool{}, map[string]bool{}, map[string]int{}
	for _, f := range files {
		shared[f.Interface]++
	}
	public := false
	for i, f := range files {
		path := fmt.Sprintf("$.legs[%d]", i)
		l := Leg{Name: f.Name, Interface: f.Interface, VLAN: uint16(v.number(path+".vlan", f.VLAN, 0, upTo(4094)))}
		if l.Interface == "" {
			v.missing(path, "interface", "the leg has no interface: write interface: and the name that `ip link` shows")
		}
		l.TPID = frame.EtherTypeVLAN
		if v.choice(path+".vlan_protocol", f.Protocol, "802.1Q", "802.1ad") == "802.1ad" {
			l.TPID = frame.EtherTypeQinQ
		}
		l.Shared = l.Interface != "" && shared[l.Interface] > 1
		if l.Name == "" {
			if l.Name = l.Interface; l.Shared && l.VLAN != 0 {
				l.Name += fmt.Sprintf(".%d", l.VLAN)
			}
		}
		v.name(path+".name", l.Name)
		if l.Name != "" && names[l.Name] {
			v.wrong(path+".name", "a leg named %q exists already", l.Name)
		}
		at := l.Interface
		if l.VLAN != 0 {
			at += fmt.Sprintf(" %d %x", l.VLAN, l.TPID)
		}
		if l.Interface != "" && interfaces[at] {
			v.wrong(path+".interface", "interface %s has a leg of VLAN %d already: several legs of one interface differ in vlan:", l.Interface, l.VLAN)
		}
		names[l.Name], interfaces[at] = true, true
		for j, n := range f.Networks {
			p, err := netip.ParsePrefix(n)
			if err != nil {
				v.wrong(fmt.Sprintf("%s.networks[%d]", path, j), "%q is not a network: write it as 10.10.0.0/24", n)
				continue
			}
			l.Networks = append(l.Networks, p.Masked())
		}
		if f.Public != nil {
			l.Public = *f.Public
		} else {
			l.Public = i == 0
		}
		public = public || l.Public
		legs = append(legs, l)
	}
	if len(legs) > 0 && !public {
		v.wrong("$.legs", "no leg is public: the VIPs must be answered for on one at least; leave public: out, and it is the first")
	}
	return legs
}

// integer reads a number as it is written: nothing of it is cut.
func integer(text string) (n int64, ok bool) {
	digits := strings.TrimLeft(text, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return 0, false // octal to some, decimal to others
	}
	n, err := strconv.ParseInt(text, 0, 64)
	return n, err == nil
}

// number checks an optional number.
func (v *validator) number(path string, x scalar, otherwise int64, r forwarder.Range) int64 {
	if !x.set {
		return otherwise
	}
	n, ok := integer(x.text)
	if !ok {
		v.wrong(path, "%s is %s: it must be a whole number from %d to %d", last(path), x.text, r.Low, r.High)
		return otherwise
	}
	if err := r.Check(last(path), n); err != nil {
		v.wrong(path, "%v", err)
		return otherwise
	}
	return n
}

// maxName is how many bytes the name of a service or a leg may have.
const maxName = 255

func (v *validator) name(path, name string) {
	if len(name) > maxName {
		v.wrong(path, "the name has %d bytes: it must have at most %d", len(name), maxName)
	}
}

// choice checks one of several words, of which the first is the default.
func (v *validator) choice(path, s string, words ...string) string {
	for _, w := range words {
		if s == w {
			return s
		}
	}
	if s != "" {
		v.wrong(path, "%s is %q: write %s", last(path), s, verbatim(either(words)))
	}
	return words[0]
}

// duration understands 90s, 6m and plain seconds.
func (v *validator) duration(path string, x scalar, otherwise time.Duration, span forwarder.Span) time.Duration {
	if !x.set {
		return otherwise
	}
	d, err := time.ParseDuration(x.text)
	if seconds, bad := strconv.ParseFloat(x.text, 64); bad == nil || errors.Is(bad, strconv.ErrRange) {
		d, err = forwarder.Seconds(seconds), nil
	}
	if err == nil {
		err = span.Check(last(path), d)
	}
	var r *forwarder.RangeError
	if errors.As(err, &r) {
		v.wrong(path, "%v", err)
		return otherwise
	}
	if err != nil {
		v.wrong(path, "%s is %q: write a time such as 90s or 6m", last(path), x.text)
		return otherwise
	}
	return d
}

func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func either(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// auto reads a key that is auto, which is the default, or off.
func (v *validator) auto(key string, value scalar) bool {
	switch value.text {
	case "", "auto":
		return true
	case "off", "false":
	default:
		v.wrong("$."+key, "%s is %q: write auto or off", key, value.text)
	}
	return false
}
