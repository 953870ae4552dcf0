package wiretest

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// look fetches a path of the director's HTTP address.
func (w *world) look(path string) string {
	w.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return w.Director.Dial(&net.Dialer{Timeout: patience / 2}, network, address)
		},
	}}
	resp, err := client.Get("http://127.0.0.1:9405" + path)
	w.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	w.must(err)
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s: %s", path, resp.Status, b)
	}
	return string(b)
}

// What a director that runs tells of itself agrees with what it did, and Prometheus's linter finds
// nothing in it.
func TestMetricsAndOverview(t *testing.T) {
	eachFamily(t, 2, metricsAndOverview, "one-arm")
}

func metricsAndOverview(t *testing.T, w *world) {
	good := w.config("http: {listen: 9405}", w.http("rr"))
	w.start(good)
	w.pages(10, 2)
	if err := w.director.Reload(strings.Replace(good, "scheduler: rr", "scheduler: none", 1)); err != nil {
		t.Fatal(err)
	}

	text, key := w.look("/metrics"), "TCP "+w.family.at(w.family.vip, "80")
	for _, want := range []string{
		`shunt_service_flows_total{service="` + key + `"} 10`,
		`shunt_realserver_flows_total{realserver="` + w.family.at(w.family.rip(1), "80") + `",service="` + key + `"} 5`,
		`shunt_realserver_available{realserver="` + w.family.at(w.family.rip(2), "80") + `",service="` + key + `"} 1`,
		`shunt_neighbours{leg="eth0",state="resolved"} 2`,
		`shunt_config_reloads_total{result="failure"} 1`,
		`shunt_config_last_reload_successful 0`,
		`shunt_leg_up{leg="eth0"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "shunt_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}

	o := w.overview()
	if o.Reload.Failures != 1 || !strings.Contains(o.Reload.Error, "unknown scheduler") || o.Reload.Last.IsZero() {
		t.Errorf("reload %+v", o.Reload)
	}
	if o.Probes.Mean < 1 && o.Probes.Mean != 0 || o.Probes.Mean > 2 || len(o.Legs) != 1 || o.Legs[0].Slots == 0 || o.Legs[0].Received == 0 {
		t.Errorf("probes %+v, legs %+v", o.Probes, o.Legs)
	}
	if n := o.Latency.Count(); n == 0 || o.Latency.Sum <= 0 {
		t.Errorf("latency %+v", o.Latency)
	}
	if err := w.director.Reload(good); err != nil {
		t.Fatal(err)
	}
	again := w.overview()
	if again.Reload.Failures != 1 || again.Reload.Error != "" || again.Reloads != 1 {
		t.Errorf("after a good reload: %+v, %d reloads", again.Reload, again.Reloads)
	}
}
