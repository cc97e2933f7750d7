//go:build linux

package eval

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func needRedis(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
}

// standIn is a command with the flags of `whale dev` that starts a Redis with two replicas, so that the comparison can be
// tested without what it compares; its ratios must then be near 1.
func standIn(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dev")
	script := `#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --port) port=$2;; --dir) dir=$2;; --tls-cert) cert=$2;; --tls-key) key=$2;; --tls-ca) ca=$2;; esac; shift; done
trap 'kill $(cat $dir/*/pid); wait; exit 0' TERM
for i in 0 1 2; do
	mkdir $dir/$i
	set -- --port $((port+i))
	[ -z "$cert" ] || set -- --port 0 --tls-port $((port+i)) --tls-replication yes --tls-cert-file $cert --tls-key-file $key --tls-ca-cert-file $ca
	set -- "$@" --bind 127.0.0.1 --dir $dir/$i --pidfile $dir/$i/pid --save "" --appendonly no --repl-diskless-sync-delay 0
	[ $i = 0 ] || set -- "$@" --replicaof "127.0.0.1 $port"
	redis-server "$@" &
done
wait
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func testComparison(t *testing.T) *Compare {
	return &Compare{
		Whale: []string{standIn(t)}, RedisServer: "redis-server", Dir: t.TempDir(), Arena: 256 << 20, Keys: 1000, Values: []int{64},
		Conns: []int{1, 4}, Pipelines: []int{1, 16}, Rounds: 1, Duration: 50 * time.Millisecond, Warmup: 10 * time.Millisecond, Notes: io.Discard,
	}
}

// running counts the processes that work in dir or below.
func running(t *testing.T, dir string) (n int) {
	t.Helper()
	cwds, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range cwds {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			n++
		}
	}
	return n
}

func TestCompareMeasuresEveryCellAndCleansUp(t *testing.T) {
	if testing.Short() {
		t.Skip("starts six servers")
	}
	t.Parallel()
	needRedis(t)
	c := testComparison(t)
	got, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rows := got.Rows(); len(rows) != 4*len(seriesOrder) {
		t.Errorf("%d rows, want each of 6 series in each of 4 cells", len(rows))
	}
	for _, r := range got.Rows() {
		if r.Rate <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.P999 < r.P99 {
			t.Errorf("%+v", r)
		}
	}
	var b strings.Builder
	if err := got.Write(&b); err != nil {
		t.Fatal(err)
	}
	if n := len(got.Targets()); n != 14 || !strings.Contains(b.String(), "of 14 targets met") {
		t.Errorf("%d targets, want 14:\n%s", n, b.String())
	}
	if left, _ := os.ReadDir(c.Dir); len(left) != 0 || running(t, c.Dir) != 0 {
		t.Errorf("left behind: %v, and %d processes", left, running(t, c.Dir))
	}
}

// TestCompareWithTLS: whoever asks one of its servers without TLS is not answered, and all cells are measured.
func TestCompareWithTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts six servers")
	}
	t.Parallel()
	needRedis(t)
	redisWithTLS(t, certificate(t, "127.0.0.1")) // or skips
	var notes strings.Builder
	c := testComparison(t)
	c.Secure, c.Notes, c.Conns, c.Pipelines = true, &notes, []int{2}, []int{16}
	asked := 0
	c.Progress = progressFunc(func(step int) {
		if step > 0 {
			return
		}
		for _, word := range strings.Fields(notes.String()) {
			if addr, found := strings.CutPrefix(word, "127.0.0.1:"); found {
				asked++
				if _, err := Identify("127.0.0.1:"+strings.TrimSuffix(addr, ","), nil); err == nil {
					t.Errorf("%s answers without TLS", word)
				}
			}
		}
	})
	got, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rows := got.Rows(); len(rows) != len(seriesOrder) || asked < 6 {
		t.Errorf("%d rows, want one of each of 6 series; %d servers were asked", len(rows), asked)
	}
	if left, _ := os.ReadDir(c.Dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInterruptedCompareEndsWhatItStarted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts six servers")
	}
	t.Parallel()
	needRedis(t)
	c := testComparison(t)
	c.Duration = time.Hour
	c.Values = []int{4096} // so that the first SET does not end by its count
	c.Arena = 8 << 30
	ctx, cancel := context.WithCancel(t.Context())
	c.Progress = progressFunc(func(step int) { cancel() })
	if _, err := c.Run(ctx); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(c.Dir); len(left) != 0 || running(t, c.Dir) != 0 {
		t.Errorf("left behind: %v, and %d processes", left, running(t, c.Dir))
	}
}

type progressFunc func(step int)

func (f progressFunc) Step(_ string, step, _ int) { f(step) }
func (f progressFunc) Part(float64)               {}

func TestCompareRefusesBeforeItStarts(t *testing.T) {
	c := testComparison(t)
	c.Arena = 20 << 20
	c.Keys = 200_000
	if _, err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--arena") {
		t.Errorf("an arena that is too small: %v", err)
	}
	c = testComparison(t)
	c.Arena = 1 << 60
	if _, err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("a disk that is too small: %v", err)
	}
	c = testComparison(t)
	c.RedisServer = "no-such-redis-server"
	if _, err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--redis-server") {
		t.Errorf("no Redis: %v", err)
	}
}

// A budget must be what really fits: as many records as it allows, laid out back to back in segments.
func TestBudgetFits(t *testing.T) {
	for _, value := range []int{1, 64, 4096, 100_000, 1 << 20} {
		for _, arena := range []uint64{64 << 20, 1 << 30, 4 << 30} {
			const keys, cells = 10, 4
			n, err := budget(arena, value, keys, cells)
			if err != nil {
				continue
			}
			perSegment := (8<<20 - 64) / RecordBytes(value)
			segments := arena/(8<<20) - max(arena*3/100, 8<<20)/(8<<20) - 1
			if total := keys + cells*n; total > segments*perSegment {
				t.Errorf("arena %d, value %d: %d records allowed, %d fit", arena, value, total, segments*perSegment)
			} else if total < segments*perSegment*8/10 {
				t.Errorf("arena %d, value %d: only %d of %d records allowed", arena, value, total, segments*perSegment)
			}
		}
	}
}

func TestTargetsAreJudgedByMedians(t *testing.T) {
	c := &Comparison{Values: []int{64}, Conns: []int{50}, Pipelines: []int{1}, samples: map[place]map[Series][]Sample{}}
	p := place{64, 50, 1}
	for _, r := range []float64{10, 1000, 30, 20, 1} { // median 20
		c.add(p, WhaleSet, Sample{Rate: r, P99: 5})
	}
	for range 5 {
		c.add(p, RedisSet, Sample{Rate: 20})
		c.add(p, RedisSetWait, Sample{Rate: 11, P99: 6})
	}
	var got []string
	for _, g := range c.Targets() {
		got = append(got, fmt.Sprintf("%.2f %v", g.Got, g.Met()))
	}
	if s := strings.Join(got, ", "); s != "1.00 true, 1.82 false, 0.83 true" {
		t.Errorf("targets: %s", s)
	}
	c.Network = true
	if got := c.Targets(); len(got) != 2 || got[0].Want != 1 || !got[0].Met() || !got[1].AtMost || !got[1].Met() {
		t.Errorf("targets over a network: %+v", got)
	}
}

func TestLoadAllocatesNothingPerOperation(t *testing.T) {
	needRedis(t)
	base, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := startProcess(dir, "redis", "redis-server", "--port", fmt.Sprint(base), "--bind", "127.0.0.1", "--save", "", "--dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	addr := fmt.Sprintf("127.0.0.1:%d", base)
	if err := await(t.Context(), 10*time.Second, func() error { _, err := Identify(addr, nil); return err }); err != nil {
		t.Fatal(err)
	}
	if id, _ := Identify(addr, nil); id.Name != "redis" || !id.Primary() || id.PID != p.cmd.Process.Pid {
		t.Errorf("identity: %v, pid %d", id, p.cmd.Process.Pid)
	}
	if err := fill(t.Context(), nil, addr, []string{addr}, 1000, 64); err != nil {
		t.Fatal(err)
	}
	for _, op := range []Op{Set, Get} {
		run := func(count uint64) float64 {
			return testing.AllocsPerRun(1, func() {
				res, err := Load{Addrs: []string{addr}, Op: op, Conns: 2, Pipeline: 16, Value: 64, Keys: 1000, Count: count}.Run(t.Context())
				if err != nil || res.Err() != nil {
					t.Fatal(err, res.Err())
				}
			})
		}
		few, many := run(1000), run(50_000)
		if many-few > 500 {
			t.Errorf("%s: %v allocations for 1000 operations, %v for 50000", op, few, many)
		}
	}
}
