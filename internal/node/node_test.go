package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whale/internal/plog"
	"whale/internal/resp"
	"whale/pmem"
)

const smallArena = 16 << 20

// cluster is real nodes in this process.
type cluster struct {
	t      *testing.T
	dir    string
	dirs   []string
	secret string
	change func(*Config)
	nodes  []*running
}

type running struct {
	*Node
	log    *lockedBuffer
	cancel context.CancelFunc
	done   chan error
	states chan State
}

func newCluster(t *testing.T, n int, change func(*Config)) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), change: change, nodes: make([]*running, n)}
	c.secret = filepath.Join(c.dir, "cluster.secret")
	if err := CreateSecret(c.secret); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c.dirs = append(c.dirs, filepath.Join(c.dir, fmt.Sprint("node", i)))
	}
	t.Cleanup(func() {
		for i, n := range c.nodes {
			if n != nil {
				c.stop(i)
			}
		}
	})
	return c
}

func (c *cluster) config(i int) Config {
	cfg := Config{ID: i, Peers: c.dirs, Listen: "127.0.0.1:0", Secret: c.secret, Arena: smallArena, CommandTimeout: 5 * time.Second}
	if len(c.dirs) == 1 {
		cfg.MinCopies = 1
	}
	if c.change != nil {
		c.change(&cfg)
	}
	return cfg
}

// start opens and runs node i.
func (c *cluster) start(i int) *running {
	c.t.Helper()
	n := &running{log: &lockedBuffer{}, done: make(chan error, 1), states: make(chan State, 1000)}
	cfg := c.config(i)
	cfg.Log = loudTo(n.log)
	cfg.Observe = func(s State) { n.states <- s }
	var err error
	if n.Node, err = Open(cfg); err != nil {
		c.t.Fatal(err)
	}
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	go func() { n.done <- n.Run(ctx) }()
	c.nodes[i] = n
	return n
}

func (c *cluster) startAll() *cluster {
	for i := range c.nodes {
		c.start(i)
	}
	for i := range c.nodes {
		c.awaitServing(i)
	}
	return c
}

// awaitServing waits until node i says that it serves.
func (c *cluster) awaitServing(i int) State {
	return c.awaitState(i, "to serve", func(s State) bool { return s.Serving })
}

func (c *cluster) awaitState(i int, what string, ok func(State) bool) State {
	c.t.Helper()
	limit := time.After(20 * time.Second)
	var last State
	for {
		select {
		case last = <-c.nodes[i].states:
			if ok(last) {
				return last
			}
		case err := <-c.nodes[i].done:
			c.t.Fatalf("node %d ended: %v\n%s", i, err, c.nodes[i].log)
		case <-limit:
			c.t.Fatalf("node %d: waited 20 s for it %s; its last state: %+v\n%s", i, what, last, c.nodes[i].log)
		}
	}
}

// stop ends node i in order.
func (c *cluster) stop(i int) {
	c.t.Helper()
	n := c.nodes[i]
	c.nodes[i] = nil
	n.cancel()
	select {
	case err := <-n.done:
		if err != nil {
			c.t.Errorf("node %d ended with: %v", i, err)
		}
	case <-time.After(20 * time.Second):
		c.t.Fatalf("node %d does not stop", i)
	}
	if err := n.Close(); err != nil {
		c.t.Errorf("closing node %d: %v", i, err)
	}
}

func (c *cluster) dial(i int) *client {
	return (&rig{t: c.t, addr: c.nodes[i].Redis()}).dial()
}

func TestClusterServesAtEveryNode(t *testing.T) {
	eachWay(t, func(t *testing.T, threads func(*Config)) {
		c := newCluster(t, 3, threads).startAll()
		big := strings.Repeat("whale", 40_000)
		for i := range 3 {
			at := c.dial(i)
			key := fmt.Sprint("key", i)
			if got := at.do("SET", key, "small") + at.do("SET", key+":big", big) + at.do("GET", key); got != "+OK\r\n+OK\r\n"+bulk("small") {
				t.Fatalf("node %d: %.100q", i, got)
			}
			for j := range 3 {
				other := c.dial(j)
				if got := other.do("GET", key) + other.do("GET", key+":big"); got != bulk("small")+bulk(big) {
					t.Fatalf("written at %d, read at %d: %.100q", i, j, got)
				}
			}
			if got := at.do("MSET", "m1", "1", "m2", "2") + at.do("MGET", "m1", "m2", "none"); got != "+OK\r\n*3\r\n"+bulk("1")+bulk("2")+"$-1\r\n" {
				t.Fatalf("node %d: %q", i, got)
			}
		}
		// A pipeline keeps its order, and sees its own writes, also where they are forwarded.
		at := c.dial(2)
		var stream []byte
		for i := range 500 {
			stream = resp.AppendCommand(stream, "SET", "n", fmt.Sprint(i))
			stream = resp.AppendCommand(stream, "GET", "n")
		}
		at.send(string(stream))
		for i := range 500 {
			if got := at.replies(2); got != "+OK\r\n"+bulk(fmt.Sprint(i)) {
				t.Fatalf("the %d. pair of a pipeline: %q", i, got)
			}
		}
		if got := at.do("WAIT", "2", "5000"); got != ":2\r\n" {
			t.Errorf("WAIT 2: %q", got)
		}
		if role := c.dial(0).do("ROLE"); !strings.HasPrefix(role, "*3\r\n$6\r\nmaster\r\n") || strings.Count(role, "127.0.0.1") != 2 {
			t.Errorf("ROLE at the primary: %q", role)
		}
		_, port := splitAddress(c.nodes[0].Redis())
		if role := at.do("ROLE"); !strings.HasPrefix(role, "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:"+port+"\r\n$9\r\nconnected\r\n") {
			t.Errorf("ROLE at a backup: %q", role)
		}
		info := c.dial(0).do("INFO")
		for _, want := range []string{"role:master", "connected_slaves:2", "member1:connected=1,drained_lag_records=", "\r\nprepared:record=", "\r\nstable:record=", "\r\neverywhere:record=", ",lag_bytes=", ",durable_lag_ms=", "whale_writable:1", "db0:keys=", "process_id:" + fmt.Sprint(os.Getpid())} {
			if !strings.Contains(info, want) {
				t.Errorf("INFO has no %q:\n%s", want, info)
			}
		}
		if info := at.do("INFO", "replication"); !strings.Contains(info, "role:slave") || !strings.Contains(info, "master_port:"+port) {
			t.Errorf("INFO at a backup:\n%s", info)
		}
	})
}

func TestRestartKeepsEverything(t *testing.T) {
	c := newCluster(t, 3, nil).startAll()
	for i := range 100 {
		if got := c.dial(i%3).do("SET", fmt.Sprint("k", i), fmt.Sprint("v", i)); got != "+OK\r\n" {
			t.Fatal(got)
		}
	}
	epoch := uint32(0)
	for _, i := range []int{2, 0, 1} { // one after the other, the primary too
		c.stop(i)
		c.start(i)
		if s := c.awaitServing(i); s.Epoch <= epoch {
			t.Errorf("node %d serves in epoch %d after epoch %d", i, s.Epoch, epoch)
		} else {
			epoch = s.Epoch
		}
		if i == 0 && !strings.Contains(c.nodes[0].log.String(), "recovered") {
			t.Errorf("the log says nothing of the recovery: %s", c.nodes[0].log)
		}
		if got := c.dial(i).do("SET", fmt.Sprint("after", i), "x"); got != "+OK\r\n" {
			t.Fatalf("node %d after its restart: %q", i, got)
		}
	}
	for i := range 3 {
		c.stop(i)
	}
	c.startAll()
	for i := range 100 {
		if got := c.dial(i%3).do("GET", fmt.Sprint("k", i)); got != bulk(fmt.Sprint("v", i)) {
			t.Fatalf("k%d after a restart of all: %q", i, got)
		}
	}
	for i, text := range c.dirs {
		if st, err := os.Stat(text); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("folder %d: %v, %v", i, st.Mode(), err)
		}
	}
}

func TestClustersOfAnySize(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := newCluster(t, n, nil).startAll()
			if got := c.dial(n-1).do("SET", "a", "1") + c.dial(0).do("GET", "a"); got != "+OK\r\n"+bulk("1") {
				t.Fatalf("%q", got)
			}
		})
	}
}

// expectPermanent checks that node i cannot be opened, for good, and that the error says all of want.
func (c *cluster) expectPermanent(i int, want ...string) {
	c.t.Helper()
	n, err := Open(c.config(i))
	if err == nil {
		n.Close()
		c.t.Fatalf("node %d opens; want an error with %q", i, want)
	}
	var p *PermanentError
	if !errors.As(err, &p) {
		c.t.Errorf("not a permanent error: %v", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			c.t.Errorf("%v; want %q in it", err, w)
		}
	}
}

func TestDamageIsPermanent(t *testing.T) {
	c := newCluster(t, 2, nil).startAll()
	at := c.dial(0)
	for i := range 20 {
		at.do("SET", fmt.Sprint("k", i), "value")
	}
	at.do("WAIT", "1", "5000")
	geometry := c.nodes[0].records.Geometry()
	c.stop(0)
	c.stop(1)
	for i, dir := range c.dirs {
		path := filepath.Join(dir, memoryFile)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		off := int64(geometry.Arena()) + plog.SegmentHeaderSize + 3*72 + 20
		f.WriteAt([]byte{0xff, 0xff}, off)
		f.Close()
		c.expectPermanent(i, path, "offset", "checksum")
	}
}

func TestAnotherArenaIsRefused(t *testing.T) {
	c := newCluster(t, 1, nil).startAll()
	c.stop(0)
	c.change = func(cfg *Config) { cfg.Arena = 2 * smallArena }
	c.expectPermanent(0, filepath.Join(c.dirs[0], memoryFile), "16 MiB", "32 MiB", "--arena")
	c.change = func(cfg *Config) { cfg.Arena = 1000 }
	c.expectPermanent(0, "--arena")
	c.change = func(cfg *Config) { cfg.Arena = 0 } // as it is
	c.startAll()
}

func TestAnothersFolderIsRefused(t *testing.T) {
	c := newCluster(t, 2, nil).startAll()
	c.stop(0)
	c.stop(1)
	c.dirs[0], c.dirs[1] = c.dirs[1], c.dirs[0]
	c.expectPermanent(0, "member")
}

func TestFolderInUse(t *testing.T) {
	c := newCluster(t, 1, nil).startAll()
	_, err := Open(c.config(0))
	if err == nil || !strings.Contains(err.Error(), c.dirs[0]) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v; want an error that names the folder and the process that has it", err)
	}
}

// A memory that is shortened under a running node ends it with an error that names the file, and no crash.
func TestMemoryPulledAway(t *testing.T) {
	c := newCluster(t, 1, nil).startAll()
	n := c.nodes[0]
	path := filepath.Join(c.dirs[0], memoryFile)
	at := c.dial(0)
	at.do("SET", "a", "1")
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	at.send(cmd("SET", "b", "2"))
	var err error
	select {
	case err = <-n.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the node goes on")
	}
	var fault *pmem.Fault
	if !errors.As(err, &fault) || !strings.Contains(err.Error(), path) {
		t.Fatalf("%v; want a fault that names %s", err, path)
	}
	c.nodes[0] = nil
	n.cancel()
	n.Close()
}

func TestWrongSecretIsToldOnce(t *testing.T) {
	c := newCluster(t, 2, nil)
	c.start(0)
	first := c.secret
	c.secret = filepath.Join(c.dir, "other.secret")
	if err := CreateSecret(c.secret); err != nil {
		t.Fatal(err)
	}
	b := c.start(1)
	await(t, "the refusal in the log of node 1", func() bool { return strings.Contains(b.log.String(), c.secret) })
	await(t, "the refusal in the log of node 0", func() bool { return strings.Contains(c.nodes[0].log.String(), first) })
	if n := strings.Count(b.log.String(), c.secret); n != 1 {
		t.Errorf("it was told %d times:\n%s", n, b.log)
	}
	if s := c.awaitState(1, "to say what it waits for", func(s State) bool { return s.Waiting != "" }); s.Serving || !strings.Contains(s.Waiting, c.dirs[0]) {
		t.Errorf("state: %+v", s)
	}
}

func TestEmptiedPrimaryIsNotServed(t *testing.T) {
	c := newCluster(t, 2, nil).startAll()
	at := c.dial(0)
	at.do("SET", "a", "1")
	at.do("WAIT", "1", "5000")
	c.stop(0)
	if err := os.RemoveAll(c.dirs[0]); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	s := c.awaitState(0, "to fail", func(s State) bool { return s.Failed != "" })
	for _, want := range c.dirs {
		if s.Serving || !strings.Contains(s.Failed, want) {
			t.Errorf("state %+v, want %s in it", s, want)
		}
	}
	if got := c.dial(0).do("GET", "a"); !strings.HasPrefix(got, "-SHARDDOWN ") {
		t.Errorf("%q", got)
	}
	if got := c.dial(0).do("PING"); got != "+PONG\r\n" {
		t.Errorf("%q", got)
	}
}

// A command's time runs from when it came, however long nothing had happened before.
func TestTimeoutAfterALongRest(t *testing.T) {
	const limit = 300 * time.Millisecond
	c := newCluster(t, 2, func(cfg *Config) { cfg.CommandTimeout = limit }).startAll()
	at, backup := c.dial(0), c.dial(1)
	time.Sleep(limit + limit/3) // the rest
	for range 3 {
		if got := backup.do("SET", "a", "1") + at.do("SET", "a", "1"); got != "+OK\r\n+OK\r\n" {
			t.Fatalf("the first commands after a rest: %q", got)
		}
	}
	// And it does run out.
	c.stop(1)
	began := time.Now()
	if got := at.do("SET", "a", "2"); !strings.HasPrefix(got, "-TIMEOUT ") || time.Since(began) > 10*limit {
		t.Errorf("without the backup: %q after %v", got, time.Since(began))
	}
	if got := at.do("GET", "a"); !strings.HasPrefix(got, "$1\r\n") {
		t.Errorf("a read without the backup: %q", got)
	}
}

func TestStopDoesNotWaitForWait(t *testing.T) {
	c := newCluster(t, 2, nil).startAll()
	c.stop(1)
	at := c.dial(0)
	at.send(cmd("PING") + cmd("WAIT", "5", "0"))
	if got := at.reply(); got != "+PONG\r\n" {
		t.Fatal(got)
	}
	await(t, "the WAIT to be read", func() bool { return c.nodes[0].loop.shown.commands.Load() >= 2 })
	began := time.Now()
	c.stop(0)
	if took := time.Since(began); took >= stopLimit {
		t.Errorf("the stop took %v", took)
	}
}
