package frame

import (
	"strings"
	"testing"
)

func TestParseTuple(t *testing.T) {
	for in, want := range map[string]string{
		"tcp 203.0.113.7:40000 > 192.168.10.100:80":     "TCP 203.0.113.7:40000 > 192.168.10.100:80",
		" UDP 203.0.113.7:40000>192.168.10.100:53 ":     "UDP 203.0.113.7:40000 > 192.168.10.100:53",
		"sctp [2001:db8::7]:1 -> [2001:db8::100]:65535": "SCTP [2001:db8::7]:1 > [2001:db8::100]:65535",
	} {
		got, err := ParseTuple(in)
		if err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
		if again, err := ParseTuple(got.String()); err != nil || again != got {
			t.Errorf("%q does not come back: %v, %v", got, again, err)
		}
	}
	for in, want := range map[string]string{
		"":                               "write it as",
		"tcp":                            "write it as",
		"icmp 1.2.3.4:1 > 1.2.3.5:1":     "tcp, udp or sctp",
		"tcp 1.2.3.4:1 1.2.3.5:1":        "no >",
		"tcp 1.2.3.4 > 1.2.3.5:1":        `"1.2.3.4" is not`,
		"tcp 1.2.3.4:1 > host:1":         `"host:1" is not`,
		"tcp 1.2.3.4:1 > [2001:db8::]:1": "different families",
	} {
		if got, err := ParseTuple(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", in, got, err, want)
		}
	}
}
