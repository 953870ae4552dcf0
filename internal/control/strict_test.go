package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"shunt/api"
)

func TestDecodeSaysWhichField(t *testing.T) {
	for _, c := range []struct{ body, field, message string }{
		{`[{"op": "flush"}, {"op": "edit-server", "server": {"weight": "7"}}]`, "changes[1].server.weight", "text where a whole number"},
		{`[{"op": "edit-server", "server": {"weight": 7.5}}]`, "changes[0].server.weight", "7.5 is not a whole number"},
		{`[{"server": {"port": 65536}}]`, "changes[0].server.port", "65536 is not a whole number from 0 to 65535"},
		{`[{"server": {"port": -1}}]`, "changes[0].server.port", "-1 is not"},
		{`[{"server": {"address": "10.0.0.300"}}]`, "changes[0].server.address", `"10.0.0.300" is not an IP address`},
		{`[{"server": {"address": 7}}]`, "changes[0].server.address", "a number where an IP address"},
		{`[{"server": []}]`, "changes[0].server", "a list where an object"},
		{`[{"servr": {}}]`, "changes[0].servr", "there is no such field; there are op, service, server, timeouts"},
		{`[{"op": "flush", "op": "flush"}]`, "changes[0].op", "given twice"},
		{`[{"op": null}]`, "changes[0].op", "null where text"},
		{`[{"service": {"one_packet": 1}}]`, "changes[0].service.one_packet", "a number where true or false"},
		{`[] []`, "changes", "behind its end"},
		{`[]x`, "changes", "behind its end"},
		{`{}`, "changes", "an object where a list"},
		{`[{"op": "flush"`, "changes", "ends too soon"},
		{``, "changes", "ends too soon"},
		{`[{"op": flush}]`, "changes", "no JSON at byte"},
	} {
		var list []api.Change
		err := decode(strings.NewReader(c.body), "changes", &list)
		var f *api.FieldError
		if !errors.As(err, &f) || f.Field != c.field || !strings.Contains(f.Message, c.message) {
			t.Errorf("%s: %v, want %s: ...%s...", c.body, err, c.field, c.message)
		}
	}
}

func TestCheckSaysWhichField(t *testing.T) {
	for body, want := range map[string]string{
		`[{"op": "fluhs"}]`:                                                              "changes[0].op: \"fluhs\" is not known; there are add-service",
		`[{"op": "add-service"}]`:                                                        "changes[0].service: is missing",
		`[{"op": "zero", "service": {}}]`:                                                "changes[0].service.protocol: \"\" is none of",
		`[{"op": "flush"}, {"op": "set-timeouts"}]`:                                      "changes[1].timeouts: is missing",
		`[{"op": "add-server", "service": {"mark": 7}}]`:                                 "changes[0].server: is missing",
		`[{"op": "add-server", "service": {"mark": 7}, "server": {}}]`:                   "changes[0].server.address: is missing",
		`[{"op": "add-service", "service": {"protocol": "TCP"}}]`:                        "changes[0].service.address: is missing",
		`[{"op": "add-service", "service": {"mark": 7, "persistence": 1e400}}]`:          "changes[0].service.persistence: 1e400 is not a number",
		`[{"op": "add-server", "server": {"weight": 0.9}}]`:                              "changes[0].server.weight: 0.9 is not a whole number of 32 bits",
		`[{"op": "add-server", "server": {"upper": 2147483648}}]`:                        "changes[0].server.upper: 2147483648 is not a whole number of 32 bits",
		`[{"op": "add-server", "server": {"port": 65536}}]`:                              "changes[0].server.port: 65536 is not a whole number from 0 to 65535",
		`[{"op": "add-service", "service": {"protocol": "tcp", "address": "10.0.0.1"}}]`: "",
	} {
		var list []api.Change
		err := decode(strings.NewReader(body), "changes", &list)
		for i := range list {
			if err == nil {
				err = CheckChange(&list[i], []string{"changes[0]", "changes[1]"}[i])
			}
		}
		if got := ""; err != nil && !strings.HasPrefix(err.Error(), want) || err == nil && want != got {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

// BenchmarkDecode110000 reads what ipvsadm -R sends for 10,000 services of ten realservers each.
func BenchmarkDecode110000(b *testing.B) {
	var list []api.Change
	for i := range 110_000 {
		c := api.Change{Op: api.OpAddServer, Service: &api.VirtualService{Protocol: "TCP", Address: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), Port: 80}}
		c.Server = &api.VirtualServer{Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Port: 80, Weight: int32(i % 10)}
		list = append(list, c)
	}
	text, err := json.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		list = nil
		if err := decode(bytes.NewReader(text), "changes", &list); err != nil || len(list) != 110_000 {
			b.Fatal(len(list), err)
		}
	}
}

// FuzzDecode: what is taken is what encoding/json understands, and what it writes is taken.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`[{"op": "edit-server", "service": {"protocol": "TCP", "address": "192.0.2.1", "port": 80}, "server": {"address": "10.0.0.1", "port": 80, "weight": 3}}]`))
	f.Add([]byte(`[{"op": "set-timeouts", "timeouts": {"tcp": 1e3, "tcpfin": 0.5, "udp": 0}}, {"op":"zero","service":null}]`))
	f.Add([]byte(`[{"op": "flush"}]  `))
	f.Add([]byte("[{\"op\": \"\xff\"}]"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var strict, loose []api.Change
		if err := decode(bytes.NewReader(body), "changes", &strict); err != nil {
			var field *api.FieldError
			if !errors.As(err, &field) {
				t.Fatalf("%v names no field", err)
			}
			return
		}
		if err := json.Unmarshal(body, &loose); err != nil {
			t.Fatalf("taken, but: %v", err)
		}
		if len(strict)+len(loose) > 0 && !reflect.DeepEqual(strict, loose) {
			t.Fatalf("%+v, and encoding/json says %+v", strict, loose)
		}
		again, err := json.Marshal(strict)
		if err != nil {
			return // a zone or the like
		}
		if strict != nil {
			if err := decode(bytes.NewReader(again), "changes", &loose); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
		}
	})
}
