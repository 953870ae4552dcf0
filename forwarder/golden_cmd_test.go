package forwarder_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"shunt/forwarder"
	"shunt/forwarder/frame"
)

// sysctl sets a variable of net.ipv4.vs.
func (d *director) sysctl(key string, value int) error {
	s := &d.settings
	switch strings.TrimPrefix(key, "net.ipv4.vs.") {
	case "conn_reuse_mode":
		s.ConnReuseMode = value
	case "expire_nodest_conn":
		s.ExpireNodestConn = value != 0
	case "expire_quiescent_template":
		s.ExpireQuiescentTemplate = value != 0
	case "sloppy_tcp":
		s.SloppyTCP = value != 0
	case "secure_tcp":
		s.SecureTCP = value
	case "schedule_icmp":
		s.ScheduleICMP = value != 0
	default:
		return fmt.Errorf("no setting is like %s", key)
	}
	d.must(d.update(func(tx *forwarder.Tx) error { return tx.SetSettings(*s) }))
	return errCarriedOut
}

// update runs a transaction and lets the worker see it.
func (d *director) update(fn func(*forwarder.Tx) error) error {
	err := d.engine.Update(fn)
	d.engine.Worker(0).Process(nil, d.now)
	return err
}

// command carries out a command line and compares whether it succeeded, or what it listed.
func (d *director) command(e *event) error {
	args := strings.Fields(e.Cmd)
	switch {
	case e.NS == "client" && args[0] == "curl":
		return d.curl(e)
	case args[0] == "iptables":
		d.marks = append(d.marks, parseMark(args))
		return errCarriedOut
	case strings.HasPrefix(e.Cmd, "ip neigh replace"): // ip neigh replace ADDR lladdr MAC dev eth0.10 nud permanent
		d.setNeighbour(vlanLeg, addr(args[3]), mac(args[5]))
		return errCarriedOut
	case strings.HasPrefix(e.Cmd, "ip route add") && strings.Contains(e.Cmd, " mtu "): // of a route to a realserver
		n, err := strconv.Atoi(args[len(args)-1])
		d.must(err)
		d.must(d.engine.SetLeg(0, forwarder.Leg{Name: "eth0", MAC: mac(ownMAC), MTU: uint32(n)}))
		return errCarriedOut
	case args[0] != "ipvsadm":
		return errors.New("not a command of the director")
	case isListing(e.Cmd):
		return d.listing(e.Cmd, e.Out, map[string]int{})
	}
	var err error
	if len(args) == 2 && args[1] == "-R" {
		err = d.restore(e.Stdin)
	} else {
		err = d.ipvsadm(args[1:], e.RC != 0)
	}
	if errors.Is(err, errListing) {
		return err
	}
	if (err == nil || errors.Is(err, errTaken)) != (e.RC == 0) {
		return fmt.Errorf("exit code %d, here %v", e.RC, err)
	}
	return nil
}

// errTaken is the error of a transaction that would have succeeded but is not wanted, as the kernel
// refused it.
var errTaken = errors.New("accepted")

// restore carries out lines of commands. The last one's error counts, but what is no command ends
// it.
func (d *director) restore(lines string) (err error) {
	for _, line := range strings.Split(strings.TrimRight(lines, "\n"), "\n") {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}
		if args[0] == "ipvsadm" {
			args = args[1:]
		}
		if err = d.ipvsadm(args, false); errors.Is(err, errUsage) {
			return err
		}
	}
	return err
}

// ipvsadm carries out one command line, or only tries to if the kernel refused it.
func (d *director) ipvsadm(args []string, refused bool) error {
	o, err := d.parse(args)
	if err != nil {
		return err
	}
	if o.command == 'Z' {
		if len(o.service.Matches) == 0 {
			return d.engine.Zero(nil)
		}
		key := o.service.Key()
		return d.engine.Zero(&key)
	}
	err = d.update(func(tx *forwarder.Tx) error {
		if err := d.apply(tx, &o); err != nil || !refused {
			return err
		}
		return errTaken
	})
	if err == nil && o.command == 'a' && !d.live[o.real.Addr] {
		// What the traces say of it is from after the kernel has given up asking.
		d.must(d.engine.SetNeighbour(o.real.Leg, o.real.Addr, frame.MAC{}))
	}
	return err
}

func (d *director) apply(tx *forwarder.Tx, o *options) error {
	key := o.service.Key()
	switch o.command {
	case 'A':
		return tx.AddService(o.service)
	case 'E':
		return tx.EditService(o.service)
	case 'D':
		return tx.DeleteService(key)
	case 'a':
		return tx.AddDestination(key, *o.real)
	case 'e':
		return tx.EditDestination(key, *o.real)
	case 'd':
		return tx.DeleteDestination(key, *o.real)
	case 'C':
		return tx.Flush()
	case 's':
		for i, set := range []*time.Duration{&d.settings.TCPTimeout, &d.settings.TCPFinTimeout, &d.settings.UDPTimeout} {
			if o.timeout[i] != 0 {
				*set = o.timeout[i]
			}
		}
		return tx.SetSettings(d.settings)
	}
	return errListing
}

// errListing is the error of commands whose output is not compared.
var errListing = errors.New("what this prints is not compared")
