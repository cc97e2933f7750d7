package node

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

var metricName = regexp.MustCompile(`\b(whale|process|go)_[a-z_]+`)

// unknownMetrics are the names in a query under which nothing is scraped.
func unknownMetrics(query string) (unknown []string) {
	have := map[string]bool{"process_resident_memory_bytes": true, "process_cpu_seconds_total": true, "go_goroutines": true}
	for _, d := range descs {
		name := strings.Split(d.String(), `"`)[1]
		have[name] = true
		if d == mDuration {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				have[name+suffix] = true
			}
			delete(have, name) // a histogram has no series of its own name
		}
	}
	for _, name := range metricName.FindAllString(query, -1) {
		if !have[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// TestDashboard: the queries of the dashboard name metrics that exist.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct {
				Type  string
				Query any
			}
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			queries++
			if !metricName.MatchString(target.Expr) {
				t.Errorf("%s: %q names no metric", p.Title, target.Expr)
			}
			if bad := unknownMetrics(target.Expr); len(bad) > 0 {
				t.Errorf("%s: %q names %v, which nobody scrapes", p.Title, target.Expr, bad)
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
	}
	if queries < 20 {
		t.Errorf("%d queries: is this the dashboard?", queries)
	}
	for _, v := range board.Templating.List {
		if q, err := json.Marshal(v.Query); err != nil || len(unknownMetrics(string(q))) > 0 {
			t.Errorf("a variable asks for %s, %v", q, err)
		}
	}
	for _, broken := range []string{"rate(whale_comands_total[1m])", "whale_command_duration_seconds", "sum(whale_lag_minutes)"} {
		if len(unknownMetrics(broken)) == 0 {
			t.Errorf("%q is not found out", broken)
		}
	}
}
