package node

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"whale/internal/shard"
)

// withAdmin gives the rig an admin address.
func (g *rig) withAdmin() string {
	g.t.Helper()
	a, err := newAdmin("127.0.0.1:0", false, g.loop.server, g.loop.log)
	if err != nil {
		g.t.Fatal(err)
	}
	g.admin = a
	done := make(chan struct{})
	go func() { a.run(); close(done) }()
	g.t.Cleanup(func() { a.close(); <-done })
	return "http://" + a.addr()
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	c := http.Client{Timeout: 20 * time.Second}
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// scrape parses the metrics as Prometheus's own library does.
func scrape(t *testing.T, url string) map[string]*dto.MetricFamily {
	t.Helper()
	code, body := fetch(t, url+"/metrics")
	if code != 200 {
		t.Fatalf("%d: %s", code, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	return families
}

// value of the metric with these labels, pairs of name and value.
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
next:
	for _, m := range families[name].GetMetric() {
		have := map[string]string{}
		for _, l := range m.Label {
			have[l.GetName()] = l.GetValue()
		}
		for i := 0; i < len(labels); i += 2 {
			if have[labels[i]] != labels[i+1] {
				continue next
			}
		}
		switch {
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount())
		}
	}
	t.Errorf("no metric %s%v", name, labels)
	return -1
}

func TestScrape(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Version = "test" })
	url := g.withAdmin()
	g.loop.server.certificateEnds = time.Unix(2000000000, 0)
	g.toy.status = shard.Status{Serving: true, Primary: true, Epoch: 7, End: 100, Stable: 90, Every: 80, Members: []shard.MemberStatus{
		{ID: 0, Self: true, Connected: true}, {ID: 1, Connected: true}, {ID: 2}}, Counters: shard.Counters{Flushes: 5, Executed: 3}}
	g.toy.lags = shard.Lags{Stable: shard.Lag{Records: 10, Bytes: 1000, Time: time.Second / 4}, Members: []shard.MemberLag{{}, {Drained: shard.Lag{Records: 3}}, {Durable: shard.Lag{Bytes: 9}}}}
	g.run()
	c := g.dial()
	c.do("SET", "k", "v")
	c.do("GET", "k")
	c.do("GET", "k")
	families := scrape(t, url)
	for _, m := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{1, "whale_info", []string{"version", "test", "role", "primary", "member", "0", "policy", "mirror"}},
		{1, "whale_serving", nil},
		{7, "whale_epoch", nil},
		{2000000000, "whale_tls_certificate_end_seconds", nil},
		{100, "whale_prepared_records", nil},
		{90, "whale_stable_records", nil},
		{80, "whale_everywhere_records", nil},
		{10, "whale_lag_records", []string{"position", "stable"}},
		{1000, "whale_lag_bytes", []string{"position", "stable"}},
		{0.25, "whale_lag_seconds", []string{"position", "stable"}},
		{0, "whale_lag_records", []string{"position", "everywhere"}},
		{3, "whale_member_lag_records", []string{"member", "1", "position", "drained"}},
		{9, "whale_member_lag_bytes", []string{"member", "2", "position", "durable"}},
		{0, "whale_member_connected", []string{"member", "2"}},
		{5, "whale_fabric_flushes_total", nil},
		{3, "whale_executed_commands_total", nil},
		{1, "whale_clients", nil},
		{1, "whale_command_duration_seconds", []string{"command", "set"}},
		{2, "whale_command_duration_seconds", []string{"command", "get"}},
	} {
		if got := value(t, families, m.name, m.labels...); got != m.want {
			t.Errorf("%s%v: %v, want %v", m.name, m.labels, got, m.want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if families[name] == nil {
			t.Errorf("no metric %s", name)
		}
	}
	if families["whale_dirty_reads_total"] != nil {
		t.Error("a primary has dirty reads")
	}
}

// TestEveryMetricIsThere: whatever is described is there at a primary or at a backup.
func TestEveryMetricIsThere(t *testing.T) {
	seen := map[string]bool{}
	for _, primary := range []bool{true, false} {
		g := newRig(t, nil)
		url := g.withAdmin()
		g.toy.status = shard.Status{Serving: true, Primary: primary, Members: []shard.MemberStatus{{ID: 0, Self: primary, Connected: true}, {ID: 1, Self: !primary}}}
		g.toy.lags = shard.Lags{Members: make([]shard.MemberLag, 2)}
		g.loop.server.certificateEnds = time.Unix(1, 0)
		g.run()
		g.dial().do("PING")
		for name := range scrape(t, url) {
			seen[name] = true
		}
	}
	for _, d := range descs {
		name := strings.Split(d.String(), `"`)[1]
		if !seen[name] {
			t.Errorf("%s is nowhere", name)
		}
	}
}

func TestProbes(t *testing.T) {
	for _, c := range []struct {
		name   string
		status shard.Status
		ready  int
		says   string
	}{
		{"serving", shard.Status{Serving: true, Primary: true, Epoch: 4, Members: []shard.MemberStatus{{Self: true, Connected: true}}}, 200, "ready: primary, epoch 4"},
		{"a backup", shard.Status{Serving: true, Members: []shard.MemberStatus{{Connected: true}, {ID: 1, Self: true, Connected: true}}}, 200, "ready: backup"},
		{"a backup alone", shard.Status{Serving: true, Members: []shard.MemberStatus{{}, {ID: 1, Self: true, Connected: true}}}, 503, "not connected to the primary"},
		{"not yet", shard.Status{Members: []shard.MemberStatus{{Self: true, Connected: true}, {ID: 1, Name: "x"}}}, 503, "waiting for member 1 (x)"},
		{"never", shard.Status{Err: fmt.Errorf("it is broken")}, 503, "it is broken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, nil)
			url := g.withAdmin()
			g.toy.status = c.status
			g.run()
			if code, body := fetch(t, url+"/readyz"); code != c.ready || !strings.Contains(body, c.says) {
				t.Errorf("/readyz: %d %q", code, body)
			}
			if code, body := fetch(t, url+"/livez"); code != 200 {
				t.Errorf("/livez: %d %q", code, body)
			}
		})
	}
}

// TestStuckLoop: nobody answers, so nothing is claimed.
func TestStuckLoop(t *testing.T) {
	g := newRig(t, nil)
	url := g.withAdmin() // the loop does not run
	g.admin.limit = 20 * time.Millisecond
	if code, body := fetch(t, url+"/livez"); code != 503 || !strings.Contains(body, "has not answered") {
		t.Errorf("/livez: %d %q", code, body)
	}
	g.admin.limit = snapshotLimit
	g.run() // for the cleanup
	if code, _ := fetch(t, url+"/livez"); code != 200 {
		t.Errorf("/livez, when the loop runs: %d", code)
	}
	if code, body := fetch(t, url+"/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("pprof: %d %.100q", code, body)
	}
}

func TestAdminAddress(t *testing.T) {
	for addr, want := range map[string]string{"0.0.0.0:0": "--insecure", "nowhere": "--admin"} {
		if a, err := newAdmin(addr, false, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", addr, a, err)
		}
	}
}
