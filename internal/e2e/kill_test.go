//go:build linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// writers set keys at all nodes and know what was acknowledged.
type writers struct {
	c     *cluster
	stop  atomic.Bool
	acked atomic.Int64
	last  atomic.Value // the last refusal, for messages
	wg    sync.WaitGroup
	each  []*writer
}

// sizes of values: most are small, some travel another way, few are large.
var sizes = []int{20, 64, 700, 20, 64, 5000, 20, 64, 30, 70_000}

// writer sets new keys one after another, and with each a counter that it overwrites.
type writer struct {
	prefix string
	acked  map[int]bool // new keys by number; every one of them must stay
	low    int          // the counter's last acknowledged value
	high   int          // the greatest that was sent
}

func (w *writer) key(i int) string { return fmt.Sprintf("%s:%d", w.prefix, i) }
func (w *writer) value(i int) string {
	return value(i, []int{20, 64, 700, 20, 64, 5000, 20, 70_000}[i%8])
}

// startWriters starts two at each node.
func startWriters(c *cluster, prefix string) *writers {
	ws := &writers{c: c}
	for id := range 2 * len(c.addrs) {
		w := &writer{prefix: fmt.Sprintf("%s:%d", prefix, id), acked: map[int]bool{}}
		ws.each = append(ws.each, w)
		ws.wg.Go(func() { ws.run(w, c.addrs[id%len(c.addrs)]) })
	}
	return ws
}

func (ws *writers) run(w *writer, addr string) {
	var c *conn
	for i := 1; !ws.stop.Load(); {
		if c == nil {
			var err error
			if c, err = dial(addr); err != nil {
				time.Sleep(5 * time.Millisecond) // the node is down
				continue
			}
			c.limit = 30 * time.Second
		}
		w.high = i
		reply, err := c.text("SET", w.key(i), w.value(i))
		if err == nil && reply == "OK" {
			w.acked[i] = true
			if reply, err = c.text("SET", w.prefix, strconv.Itoa(i)); err == nil && reply == "OK" {
				w.low = i
				ws.acked.Add(1)
			}
		}
		if refusal, refused := err.(replyError); refused {
			ws.last.Store(refusal)
		} else if err != nil {
			c.close()
			c = nil
		}
		i++
	}
	if c != nil {
		c.close()
	}
}

// await waits until n more writes are acknowledged.
func (ws *writers) await(t testing.TB, n int64) {
	t.Helper()
	goal := ws.acked.Load() + n
	await(t, 60*time.Second, func() error {
		if got := ws.acked.Load(); got < goal {
			return fmt.Errorf("%d writes are acknowledged, waiting for %d; the last refusal: %v", got, goal, ws.last.Load())
		}
		return nil
	})
}

func (ws *writers) end() {
	ws.stop.Store(true)
	ws.wg.Wait()
}

// check reads everything that was acknowledged, each key at some node.
func (ws *writers) check(t testing.TB) {
	t.Helper()
	conns := make([]*conn, len(ws.c.addrs))
	for i, addr := range ws.c.addrs {
		var err error
		if conns[i], err = dial(addr); err != nil {
			t.Fatal(err)
		}
		defer conns[i].close()
	}
	lost, keys := 0, 0
	for _, w := range ws.each {
		for i := 1; i <= w.high; i++ {
			node := rand.IntN(len(conns))
			got, err := conns[node].text("GET", w.key(i))
			if err != nil && err != errNil {
				t.Fatalf("GET %s at node %d: %v", w.key(i), node, err)
			}
			keys++
			switch {
			case got == w.value(i):
			case err == errNil && !w.acked[i]: // it was never acknowledged and never happened
			default:
				if lost++; lost <= 5 {
					t.Errorf("%s (acknowledged: %v) at node %d: %d bytes, want %d", w.key(i), w.acked[i], node, len(got), len(w.value(i)))
				}
			}
		}
		for node, c := range conns {
			got, err := c.text("GET", w.prefix)
			n, _ := strconv.Atoi(got)
			if err != nil && err != errNil || n < w.low || n > w.high {
				t.Errorf("the counter %s at node %d: %q, %v; acknowledged up to %d, sent up to %d", w.prefix, node, got, err, w.low, w.high)
			}
		}
	}
	t.Logf("%d keys checked, %d acknowledged pairs, %d wrong", keys, ws.acked.Load(), lost)
}

// Everything dies at once, the parent too, as at a power cut of the processes; nothing acknowledged is lost.
func TestKillEverythingUnderLoad(t *testing.T) {
	c := ownCluster(t, "--arena", arenaSize("512MiB", "2GiB"))
	c.start()
	c.awaitReady()
	for round := range size(3, 10) {
		ws := startWriters(c, fmt.Sprintf("all:%d", round))
		ws.await(t, 2000+rand.Int64N(1000))
		pids := c.pids()
		c.killDev()
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL) // they may have gone with the parent already
		}
		ws.end()
		c.start()
		c.awaitReady()
		ws.check(t)
	}
}

// One process dies, `whale dev` restarts it, and the writers go on; for the primary as for each backup.
func TestKillEachNodeUnderLoad(t *testing.T) {
	c := ownCluster(t, "--arena", arenaSize("512MiB", "2GiB"))
	c.start()
	c.awaitReady()
	for round := range size(1, 5) {
		for node := range nodes {
			ws := startWriters(c, fmt.Sprintf("one:%d:%d", round, node))
			ws.await(t, 500+rand.Int64N(500))
			pid := c.pid(node)
			printed := len(c.printed())
			signal(t, pid, syscall.SIGKILL)
			await(t, 30*time.Second, func() error {
				if alive(pid) {
					return fmt.Errorf("process %d lives", pid)
				}
				return nil
			})
			c.awaitReady()
			if now := c.pid(node); now == pid {
				t.Errorf("node %d still says that it is process %d", node, pid)
			}
			c.awaitPrinted(printed, strconv.Itoa(pid)) // the parent says which node died
			ws.await(t, 500)
			ws.end()
			ws.check(t)
		}
	}
}

// Nodes never outlive the parent, however it ended.
func TestNodesEndWithTheParent(t *testing.T) {
	c := ownCluster(t)
	ends := map[string]func(){
		"kill -9": c.killDev,
		"Ctrl-C":  c.stop,
	}
	for _, name := range []string{"kill -9", "Ctrl-C"} {
		c.start()
		c.awaitReady()
		pids := c.pids()
		ends[name]()
		await(t, 10*time.Second, func() error {
			for i, pid := range pids {
				if alive(pid) {
					return fmt.Errorf("after %s of the parent node %d (process %d) lives on", name, i, pid)
				}
			}
			return nil
		})
	}
}

// recorder is a test that only notes that it failed.
type recorder struct {
	testing.TB
	failed int
}

func (r *recorder) Helper()               {}
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Errorf(string, ...any) { r.failed++ }

// What the tests above rely on must be able to fail: a key that is lost, one that is changed, a counter that went back.
func TestCheckCatchesALoss(t *testing.T) {
	c := newCluster(t)
	ws := startWriters(c, "loss")
	ws.await(t, 100)
	ws.end()
	var clean recorder
	if ws.check(&clean); clean.failed != 0 {
		t.Fatalf("%d errors although nothing is lost", clean.failed)
	}
	w := ws.each[0]
	for name, harm := range map[string][]string{
		"a lost key":             {"DEL", w.key(3)},
		"a changed key":          {"APPEND", w.key(4), "x"},
		"a counter of the past":  {"SET", w.prefix, strconv.Itoa(w.low - 1)},
		"a counter from nowhere": {"SET", w.prefix, strconv.Itoa(w.high + 1)},
	} {
		if _, err := c.once(0, harm...); err != nil {
			t.Fatal(err)
		}
		var r recorder
		if ws.check(&r); r.failed == 0 {
			t.Errorf("%s is not noticed", name)
		}
		for key, v := range map[string]string{w.key(3): w.value(3), w.key(4): w.value(4), w.prefix: strconv.Itoa(w.low)} {
			if _, err := c.once(0, "SET", key, v); err != nil {
				t.Fatal(err)
			}
		}
	}
}
