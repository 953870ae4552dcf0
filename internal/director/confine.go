package director

import (
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"shunt/internal/confine"
)

// readAlways are files of the system that a running director reads: of the kernel, of time zones,
// of names of users, groups and services.
var readAlways = []string{
	"/proc", "/sys/class/net", "/sys/devices", "/etc/localtime", "/usr/share/zoneinfo", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
	"/etc/hosts", "/etc/resolv.conf", "/etc/services", "/etc/protocols", "/etc/mime.types",
}

// giveUp leaves this process what a running director needs. It is called when everything is open
// and no frame is forwarded yet.
func (d *Director) giveUp() {
	if !d.cfg.Confine || d.opt.Confine == nil {
		return
	}
	c := d.opt.Confine(d.policy())
	d.confinement.Store(&c)
	d.log.Info("privileges dropped", "left", c.Capabilities, "no_new_privs", c.NoNewPrivs, "landlock", c.Landlock, "seccomp", c.Seccomp)
	if len(c.Missing) > 0 {
		d.log.Warn("some privileges could not be dropped", "missing", c.Missing)
	}
}

// policy lists the files that a running director needs. What executes programs one day has to name
// them in Execute.
func (d *Director) policy() confine.Policy {
	p := confine.Policy{Read: append(configDirs(d.cfg.Path), readAlways...)}
	p.Read = append(p.Read, webFiles(d.cfg.HTTP.WebConfig)...)
	if dir := d.kept.Dir(); dir != nil {
		p.Write = append(p.Write, dir.Name())
	}
	if dir := d.cfg.ProcDir; dir != "" {
		p.Write = append(p.Write, dir)
	}
	for _, s := range []string{d.cfg.Control.Socket, d.cfg.Control.ReadOnly.Socket} {
		if s != "" {
			p.Sockets = append(p.Sockets, filepath.Dir(s))
		}
	}
	return p
}

// configDirs are the directories of a file as it is named, and as it is: editors put another file
// in its place.
func configDirs(path string) []string {
	var dirs []string
	if abs, err := filepath.Abs(path); err == nil {
		dirs = append(dirs, filepath.Dir(abs))
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		if abs, err := filepath.Abs(real); err == nil {
			dirs = append(dirs, filepath.Dir(abs))
		}
	}
	return dirs
}

// webFiles are the files of http.web_config and those that it names: they are read again when a
// browser comes.
func webFiles(path string) []string {
	if path == "" {
		return nil
	}
	files := configDirs(path)
	text, err := os.ReadFile(path)
	if err != nil {
		return files // whoever serves the page says so
	}
	var web struct {
		TLS struct {
			Cert string `yaml:"cert_file"`
			Key  string `yaml:"key_file"`
			CA   string `yaml:"client_ca_file"`
		} `yaml:"tls_server_config"`
	}
	_ = yaml.Unmarshal(text, &web) // likewise
	for _, f := range []string{web.TLS.Cert, web.TLS.Key, web.TLS.CA} {
		if f == "" {
			continue
		}
		if !filepath.IsAbs(f) {
			f = filepath.Join(filepath.Dir(path), f)
		}
		files = append(files, configDirs(f)...) // whole directories: certificates are renewed by other files in their place
	}
	return files
}

// Refused explains the error of a file that could not be read, if this director may have given up
// the right to.
func (d *Director) Refused(err error) error {
	if d.confinement.Load() == nil {
		return err
	}
	return confine.Refused(err, "those below "+filepath.Dir(d.configPath()))
}

func (d *Director) configPath() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Path
}
