package complete

import (
	"slices"
	"testing"
)

// Without a director there is nothing to offer but the names of schedulers.
func TestIpvsadm(t *testing.T) {
	for _, c := range []struct {
		before []string
		some   string
	}{
		{nil, ""}, {[]string{"-A"}, ""}, {[]string{"-A", "-t"}, ""}, {[]string{"-a", "-t", "192.0.2.1:80", "-r"}, ""},
		{[]string{"-A", "-t", "192.0.2.1:80", "-s"}, "wlc"}, {[]string{"-E", "--scheduler"}, "mh"},
	} {
		got := Ipvsadm("/no/such.sock", c.before)
		if c.some == "" && len(got) != 0 || c.some != "" && !slices.Contains(got, c.some) {
			t.Errorf("behind %q: %q", c.before, got)
		}
	}
}
