package config

// The types of this file are the configuration as it is written. Scalars of which more than one form is understood are
// any or string; validate.go makes typed values of them. docs/configuration.md describes every key.

type file struct {
	Log       logFile       `yaml:"log"`
	Legs      []legFile     `yaml:"legs"`
	Services  []serviceFile `yaml:"services"`
	SourceMAC string        `yaml:"source_mac"`
	Guard     any           `yaml:"guard"`
	ARP       arpFile       `yaml:"arp"`
	Flows     *int          `yaml:"flows"`
	TableFull string        `yaml:"table_full"`
	WhenGone  string        `yaml:"when_gone"`
	Answer    *bool         `yaml:"answer"`
	StrayICMP string        `yaml:"stray_icmp"`
	StrictRST *bool         `yaml:"strict_rst"`
	Workers   *int          `yaml:"workers"`
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
	VLAN      *int     `yaml:"vlan"`
	Protocol  string   `yaml:"vlan_protocol"`
	Public    *bool    `yaml:"public"`
	Networks  []string `yaml:"networks"`
}

type matchFile struct {
	Address  string `yaml:"address"`
	Protocol string `yaml:"protocol"`
	Port     any    `yaml:"port"`
}

type serviceFile struct {
	Name        string           `yaml:"name"`
	Address     string           `yaml:"address"`
	Protocol    string           `yaml:"protocol"`
	Port        any              `yaml:"port"`
	Matches     []matchFile      `yaml:"matches"`
	Mark        *int64           `yaml:"mark"`
	Scheduler   string           `yaml:"scheduler"`
	Flags       []string         `yaml:"flags"`
	TableSize   *int             `yaml:"table_size"`
	Persistence any              `yaml:"persistence"`
	Mask        *int             `yaml:"persistence_mask"`
	OnePacket   bool             `yaml:"one_packet"`
	SlowStart   any              `yaml:"slow_start"`
	Realservers []realserverFile `yaml:"realservers"`
}

type realserverFile struct {
	Address string `yaml:"address"`
	Weight  *int   `yaml:"weight"`
	Upper   *int   `yaml:"upper"`
	Lower   *int   `yaml:"lower"`
	Drain   any    `yaml:"drain"`
	MAC     string `yaml:"mac"`
	Leg     string `yaml:"leg"`
}

type arpFile struct {
	Announce any  `yaml:"announce"`
	Refresh  any  `yaml:"refresh"`
	Watch    any  `yaml:"watch"`
	Learn    bool `yaml:"learn_gratuitous"`
}

type ringFile struct {
	Slots    *int   `yaml:"slots"`
	SlotSize *int   `yaml:"slot_size"`
	Busy     string `yaml:"busy"`
	Spin     any    `yaml:"spin"`
	Gather   any    `yaml:"gather"`
	CPUs     []int  `yaml:"cpus"`
}

type controlFile struct {
	Socket   string     `yaml:"socket"`
	Mode     any        `yaml:"mode"`
	Group    string     `yaml:"group"`
	ReadOnly socketFile `yaml:"read_only"`
}

type socketFile struct {
	Socket string `yaml:"socket"`
	Mode   any    `yaml:"mode"`
	Group  string `yaml:"group"`
}

type httpFile struct {
	Listen    any    `yaml:"listen"`
	WebConfig string `yaml:"web_config"`
}

// ipvsFile has the kernel's settings under net.ipv4.vs by their names, and the timeouts of ipvsadm --set.
type ipvsFile struct {
	SloppyTCP               bool `yaml:"sloppy_tcp"`
	SloppySCTP              bool `yaml:"sloppy_sctp"`
	ConnReuseMode           *int `yaml:"conn_reuse_mode"`
	ExpireNodestConn        bool `yaml:"expire_nodest_conn"`
	ExpireQuiescentTemplate bool `yaml:"expire_quiescent_template"`
	DropEntry               *int `yaml:"drop_entry"`
	DropPacket              *int `yaml:"drop_packet"`
	AmDroprate              *int `yaml:"am_droprate"`
	SecureTCP               *int `yaml:"secure_tcp"`
	ScheduleICMP            bool `yaml:"schedule_icmp"`
	LblcExpiration          any  `yaml:"lblc_expiration"`
	LblcrExpiration         any  `yaml:"lblcr_expiration"`
	Timeouts                struct {
		TCP    any `yaml:"tcp"`
		TCPFin any `yaml:"tcpfin"`
		UDP    any `yaml:"udp"`
	} `yaml:"timeouts"`
}
