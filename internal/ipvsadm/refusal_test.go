package ipvsadm

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"shunt/api"
)

// refusing is a director that refuses all changes in one way.
func refusing(t *testing.T, status int, answer any) *api.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			_ = json.NewEncoder(w).Encode(api.Status{})
			return
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	})}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Close() })
	return api.NewClient(path)
}

// ipvsadm's words come first, to the byte, and the reason that the director gives follows where
// they do not tell it.
func TestReasons(t *testing.T) {
	const general = "Invalid operation.  Possibly wrong module version, address not unicast, ...\n"
	for name, x := range map[string]struct {
		args   []string
		status int
		answer any
		want   string
	}{
		"invalid": {[]string{"-a", "-t", "192.0.2.1:80", "-r", "10.9.9.9"}, 409, api.Error{Code: api.CodeInvalid, Message: "realserver 10.9.9.9 is on none of the legs' networks\nmore"},
			general + "realserver 10.9.9.9 is on none of the legs' networks\n"},
		"range": {[]string{"-a", "-t", "192.0.2.1:80", "-r", "10.9.9.9"}, 409, api.Error{Code: api.CodeRange, Message: "lower above upper"},
			"Numerical result out of range\nlower above upper\n"},
		"field": {[]string{"-e", "-t", "192.0.2.1:80", "-r", "10.9.9.9"}, 400, api.FieldError{Field: "changes[0].server.weight", Message: "must be from 0 to 65535"},
			general + "server.weight: must be from 0 to 65535\n"},
		"exists":  {[]string{"-A", "-t", "192.0.2.1:80"}, 409, api.Error{Code: api.CodeExists, Message: "there is one"}, "Service already exists\n"},
		"no such": {[]string{"-d", "-t", "192.0.2.1:80", "-r", "10.9.9.9"}, 409, api.Error{Code: api.CodeNoServer, Message: "no"}, "No such destination\n"},
		"scheduler": {[]string{"-A", "-t", "192.0.2.1:80", "-s", "x"}, 409, api.Error{Code: api.CodeUnknownScheduler, Message: "unknown scheduler \"x\": there are rr\x1b"},
			"Scheduler or persistence engine not found\n\"unknown scheduler \\\"x\\\": there are rr\\x1b\"\n"},
		"engine": {[]string{"-A", "-t", "192.0.2.1:80", "--pe", "sip"}, 409, api.Error{Code: api.CodeUnknownEngine, Message: "there are none"},
			"Scheduler or persistence engine not found\nthere are none\n"},
		"mark": {[]string{"-A", "-f", "9"}, 409, api.Error{Code: api.CodeUnknownMark, Message: "firewall mark 9 is not defined"}, "firewall mark 9 is not defined\n"},
	} {
		var stdout, stderr bytes.Buffer
		status := Run(t.Context(), x.args, strings.NewReader(""), &stdout, &stderr, refusing(t, x.status, x.answer))
		if status != 255 || stderr.String() != x.want || stdout.Len() > 0 {
			t.Errorf("%s: status %d, it says %q, want %q", name, status, stderr.String(), x.want)
		}
	}
}
