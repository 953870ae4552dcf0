package explain

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const file = `legs: [{interface: eth0}]
services:
  - name: web
    address: 192.168.10.100
    port: 80
    scheduler: wrr
    persistence: 6m
    realservers:
      - {address: 10.10.0.11, weight: 0}
      - {address: 10.10.0.12, weight: 3}
`

func TestOffline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shunt.yaml")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	for packet, want := range map[string]string{
		"tcp 203.0.113.7:40000 > 192.168.10.100:80": `packet    TCP 203.0.113.7:40000 > 192.168.10.100:80
service   web: TCP 192.168.10.100:80, scheduler wrr
decided   by the scheduler: the packet would start a connection
goes to   10.10.0.12:80

Realservers, in the scheduler's order:
-> 10.10.0.12:80  weight 3     active 0      inactive 0      in turn, weight 3
   10.10.0.11:80  weight 0     active 0      inactive 0      weight 0: it gets no new connections
`,
		"tcp 10.10.0.12:40000 > 192.168.10.100:80": `packet    TCP 10.10.0.12:40000 > 192.168.10.100:80
service   web: TCP 192.168.10.100:80, scheduler wrr
verdict   loop guard: source MAC is a realserver's or the director's own

Realservers, in the scheduler's order:
   10.10.0.12:80  weight 3     active 0      inactive 0      in turn, weight 3
   10.10.0.11:80  weight 0     active 0      inactive 0      weight 0: it gets no new connections
`,
		"udp 203.0.113.7:40000 > 192.168.10.100:80": `packet    UDP 203.0.113.7:40000 > 192.168.10.100:80
service   none
verdict   no service: to a VIP, but no service has this port
`,
	} {
		x, err := Offline(t.Context(), path, packet)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		Print(&out, &x)
		if d := cmp.Diff(want, out.String()); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	if _, err := Offline(t.Context(), path, "tcp nonsense"); err == nil || !strings.Contains(err.Error(), "write it as") {
		t.Errorf("nonsense: %v", err)
	}
	if _, err := Offline(t.Context(), path+"x", "tcp 203.0.113.7:40000 > 192.168.10.100:80"); err == nil {
		t.Error("a missing file was accepted")
	}
}
