package config

// The types of this file are the configuration as it is written. Numbers, times and what has more
// than one form are scalars; validate.go makes typed values of them. docs/configuration.md
// describes every key.

type file struct {
	Include   any           `yaml:"include"`
	Log       logFile       `yaml:"log"`
	Legs      []legFile     `yaml:"legs"`
	Services  []serviceFile `yaml:"services"`
	SourceMAC string        `yaml:"source_mac"`
	Confine   scalar        `yaml:"confine"`
	Guard     scalar        `yaml:"guard"`
	ARP       arpFile       `yaml:"arp"`
	Flows     scalar        `yaml:"flows"`
	TableFull string        `yaml:"table_full"`
	WhenGone  string        `yaml:"when_gone"`
	Answer    *bool         `yaml:"answer"`
	StrayICMP string        `yaml:"stray_icmp"`
	StrictRST *bool         `yaml:"strict_rst"`
	Workers   scalar        `yaml:"workers"`
	Ring      ringFile      `yaml:"ring"`
	Control   controlFile   `yaml:"control"`
	HTTP      httpFile      `yaml:"http"`
	StateDir  string        `yaml:"state_dir"`
	ProcDir   string        `yaml:"proc_dir"`
	IPVS      ipvsFile      `yaml:"ipvs"`
	Templates any           `yaml:"x-templates"` // for anchors; not looked at
}

// realservers is how many there are in all services.
func (f *file) realservers() (n int) {
	for i := range f.Services {
		n += len(f.Services[i].Realservers)
	}
	return n
}

type logFile struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

type legFile struct {
	Name      string   `yaml:"name"`
	Interface string   `yaml:"interface"`
	VLAN      scalar   `yaml:"vlan"`
	Protocol  string   `yaml:"vlan_protocol"`
	Public    *bool    `yaml:"public"`
	Networks  []string `yaml:"networks"`
}

type matchFile struct {
	Address  string `yaml:"address"`
	Protocol string `yaml:"protocol"`
	Port     scalar `yaml:"port"`
}

type serviceFile struct {
	Name        string           `yaml:"name"`
	Address     string           `yaml:"address"`
	Protocol    string           `yaml:"protocol"`
	Port        scalar           `yaml:"port"`
	Matches     []matchFile      `yaml:"matches"`
	Mark        scalar           `yaml:"mark"`
	Scheduler   string           `yaml:"scheduler"`
	Flags       []string         `yaml:"flags"`
	TableSize   scalar           `yaml:"table_size"`
	Persistence scalar           `yaml:"persistence"`
	Mask        scalar           `yaml:"persistence_mask"`
	OnePacket   bool             `yaml:"one_packet"`
	SlowStart   scalar           `yaml:"slow_start"`
	Realservers []realserverFile `yaml:"realservers"`
}

type realserverFile struct {
	Address string `yaml:"address"`
	Weight  scalar `yaml:"weight"`
	Upper   scalar `yaml:"upper"`
	Lower   scalar `yaml:"lower"`
	Drain   scalar `yaml:"drain"`
	MAC     string `yaml:"mac"`
	Leg     string `yaml:"leg"`
}

type arpFile struct {
	Announce scalar `yaml:"announce"`
	Refresh  scalar `yaml:"refresh"`
	Watch    scalar `yaml:"watch"`
	Learn    bool   `yaml:"learn_gratuitous"`
}

type ringFile struct {
	Slots    scalar   `yaml:"slots"`
	SlotSize scalar   `yaml:"slot_size"`
	Busy     string   `yaml:"busy"`
	Spin     scalar   `yaml:"spin"`
	Gather   scalar   `yaml:"gather"`
	CPUs     []scalar `yaml:"cpus"`
}

type controlFile struct {
	Socket   string     `yaml:"socket"`
	Mode     scalar     `yaml:"mode"`
	Group    string     `yaml:"group"`
	ReadOnly socketFile `yaml:"read_only"`
}

type socketFile struct {
	Socket string `yaml:"socket"`
	Mode   scalar `yaml:"mode"`
	Group  string `yaml:"group"`
}

type httpFile struct {
	Listen    scalar `yaml:"listen"`
	WebConfig string `yaml:"web_config"`
}

// ipvsFile has the kernel's settings under net.ipv4.vs by their names, and the timeouts of ipvsadm
// --set.
type ipvsFile struct {
	SloppyTCP               bool   `yaml:"sloppy_tcp"`
	SloppySCTP              bool   `yaml:"sloppy_sctp"`
	ConnReuseMode           scalar `yaml:"conn_reuse_mode"`
	ExpireNodestConn        bool   `yaml:"expire_nodest_conn"`
	ExpireQuiescentTemplate bool   `yaml:"expire_quiescent_template"`
	DropEntry               scalar `yaml:"drop_entry"`
	DropPacket              scalar `yaml:"drop_packet"`
	AmDroprate              scalar `yaml:"am_droprate"`
	SecureTCP               scalar `yaml:"secure_tcp"`
	ScheduleICMP            bool   `yaml:"schedule_icmp"`
	LblcExpiration          scalar `yaml:"lblc_expiration"`
	LblcrExpiration         scalar `yaml:"lblcr_expiration"`
	Timeouts                struct {
		TCP    scalar `yaml:"tcp"`
		TCPFin scalar `yaml:"tcpfin"`
		UDP    scalar `yaml:"udp"`
	} `yaml:"timeouts"`
}
