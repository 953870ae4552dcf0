package wiretest

import (
	"bytes"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/api"
)

// What was changed by the control socket outlives the process, as the kernel's table outlives
// ipvsadm, until the configuration is read again or is another.
func TestChangesOutliveTheProcess(t *testing.T) {
	w := build(t, "one-arm", 2)
	w.serveTalks()
	config := w.config("", w.http("rr"))
	w.start(config)
	file := filepath.Join(strings.TrimSuffix(w.socket, ".sock")+".state", "changes")
	c := api.NewClient(w.socket)
	vip := netip.MustParseAddr(w.family.vip)
	web := &api.VirtualService{Protocol: "TCP", Address: vip, Port: 80, Scheduler: "rr"}
	echo := &api.VirtualService{Protocol: "TCP", Address: vip, Port: 7, Scheduler: "wlc"}
	server := func(i int, port uint16, weight int32) *api.VirtualServer {
		return &api.VirtualServer{Address: netip.MustParseAddr(w.family.rip(i)), Port: port, Weight: weight}
	}
	drain := []api.Change{{Op: api.OpEditServer, Service: web, Server: server(1, 80, 0)}}
	w.must(c.Apply(w.ctx, drain))
	w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpAddService, Service: echo}, {Op: api.OpAddServer, Service: echo, Server: server(2, 7, 5)}}))
	k := w.talk() // through the service that was added
	is := func(when string, changes uint64, services int, pages map[string]int) {
		t.Helper()
		if n := w.status().Changes; n != changes {
			t.Errorf("%s: %d changes, want %d", when, n, changes)
		}
		if n := len(w.services()); n != services {
			t.Errorf("%s: %d services, want %d", when, n, services)
		}
		if got := w.pages(4, 1); !maps.Equal(got, pages) {
			t.Errorf("%s: pages came from %v, want %v", when, got, pages)
		}
	}
	web2, both := map[string]int{"web2": 4}, map[string]int{"web1": 2, "web2": 2}
	is("at first", 3, 2, web2)
	w.must(k.say("at-first"))
	w.director.Kill()
	w.start(config)
	w.logged("are in force", "changes=3")
	is("after a kill", 3, 2, web2)
	w.must(k.say("after-a-kill"))

	// Many changes do not make a long file; what they made of the services is kept.
	for n := range 300 {
		w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpEditServer, Service: echo, Server: server(2, 7, int32(1+n%9))}}))
	}
	w.eventually("the file is written anew", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && bytes.Count(text, []byte("\n")) < 300
	})
	w.stop()
	w.start(config)
	is("after an end", 303, 2, web2)
	w.must(k.say("after-an-end"))
	if s := w.services(); s[0].Realservers[0].Weight != 1+299%9 && s[1].Realservers[0].Weight != 1+299%9 {
		t.Errorf("the last weight is not kept: %+v", s)
	}

	// Of a line that was not written to its end nothing remains, and further ones are kept all the
	// same.
	w.stop()
	text, err := os.ReadFile(file)
	w.must(err)
	w.must(os.WriteFile(file, append(text, `[{"op":"edit-ser`...), 0o600))
	w.start(config)
	w.logged("level=WARN", "the last changes made by the previous director's control socket are lost")
	w.must(c.Apply(w.ctx, []api.Change{{Op: api.OpDeleteService, Service: echo}}))
	w.director.Kill()
	w.start(config)
	is("after half a line", 304, 1, web2)

	w.reload(config)
	is("read again", 0, 1, both)
	w.director.Kill()
	w.start(config)
	is("read again and killed", 0, 1, both)

	w.must(c.Apply(w.ctx, drain))
	w.stop()
	w.start(config + "# another file\n")
	w.logged("level=INFO", "are discarded", "changes=1")
	is("with another configuration", 0, 1, both)
	w.stop()
	w.must(os.WriteFile(file, []byte(strings.Repeat("foreign ", 1000)), 0o600))
	w.start(config)
	w.logged("level=WARN", "are lost", file)
	is("with a foreign file", 0, 1, both)
}
