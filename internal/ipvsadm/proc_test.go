package ipvsadm

import (
	"os"
	"path/filepath"
	"testing"

	"shunt/api"
)

// TestWriteProc has what the traces lack of /proc, in the kernel's format.
func TestWriteProc(t *testing.T) {
	k := newKernel()
	for _, line := range []string{
		"-A -t 192.0.2.1:80 -p 50 -M 255.255.255.0", "-a -t 192.0.2.1:80 -r 10.0.0.1 -w 3",
		"-A -u 192.0.2.1:53 -s rr -o -p 1",
		"-A -t [2001:db8::1]:443 -s sh -b sh-port -p 360 -M 64", "-a -t [2001:db8::1]:443 -r [fd00::1]:443",
		"-A -f 26 -s rr", "-a -f 26 -r 10.0.0.1:8080", "-A -f 27 -6 -s rr -o", "-A --sctp-service 192.0.2.1:9 -s mh",
	} {
		if rc, _, errs := run(k, line, ""); rc != 0 {
			t.Fatal(line, errs)
		}
	}
	k.services[0].Servers[0].Active, k.services[0].Servers[0].Inactive = 5, 7
	k.services[0].Counts, k.services[0].Rates = api.Counts{Flows: 0x1234567800, Packets: 2, Bytes: 0xabcdef}, api.Rates{Flows: 6, Packets: 7, Bytes: 9}
	k.services[1].Counts, k.services[1].Rates = api.Counts{Flows: 0x90}, api.Rates{Bytes: 1}
	k.conns = []api.Connection{{
		Protocol: "TCP", State: "ESTABLISHED", Client: ap("[2001:db8::7]:40000"), Virtual: ap("[2001:db8::1]:443"), Realserver: ap("[::ffff:10.0.0.1]:443"),
		Expires: 899.9,
	}, {
		Protocol: "IP", State: "NONE", Client: ap("192.0.2.0:0"), Virtual: ap("0.0.0.26:0"), Realserver: ap("10.0.0.1:0"), Expires: -1,
	}}
	dir := t.TempDir()
	for range 2 { // the second time over the first
		if err := k.writeProc(dir); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"ip_vs": `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0000201:0050 wlc  persistent 12500 FFFFFF00
  -> 0A000001:0050      Route   3      5          7         
UDP  C0000201:0035 rr ops  persistent 250 FFFFFFFF
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:01BB sh persistent 90000 40000000
  -> [fd00:0000:0000:0000:0000:0000:0000:0001]:01BB      Route   1      0          0         
FWM  0000001A rr 
  -> 0A000001:1F90      Route   1      0          0         
FWM  0000001B rr ops 
SCTP  C0000201:0009 mh  
`,
		"ip_vs_stats": `   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
1234567890        2        0           ABCDEF                0

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
       6        7        0                A                0
`,
		"ip_vs_conn": `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 2001:0db8:0000:0000:0000:0000:0000:0007 9C40 2001:0db8:0000:0000:0000:0000:0000:0001 01BB 0000:0000:0000:0000:0000:ffff:0a00:0001 01BB ESTABLISHED     899
IP  C0000200 0000 0000001A 0000 0A000001 0000 NONE              0
`,
	} {
		got, err := os.ReadFile(filepath.Join(dir, "net", name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s, want\n%s", name, err, got, want)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "net"))
	if err != nil || len(left) != 3 {
		t.Error(left, err)
	}
}

// TestWriteProcFailure leaves no temporary file.
func TestWriteProcFailure(t *testing.T) {
	dir := t.TempDir()
	if err := newKernel().writeProc(dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "net", "ip_vs")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(name, "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := newKernel().writeProc(dir); err == nil {
		t.Error("no error")
	}
	left, err := os.ReadDir(filepath.Join(dir, "net"))
	if err != nil || len(left) != 3 {
		t.Error(left, err)
	}
	if err := newKernel().writeProc("/dev/null"); err == nil {
		t.Error("no error")
	}
}
