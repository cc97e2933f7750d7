package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"whale/internal/node"
)

// The test binary is the node, too: what it does is in the file "mode" of its folder.
func TestMain(m *testing.M) {
	if os.Getenv("DEV_TEST_NODE") != "" {
		standIn()
		return
	}
	os.Exit(m.Run())
}

// flag is the value behind a flag in this process's arguments.
func flag(name string) string {
	for i, a := range os.Args[:len(os.Args)-1] {
		if a == "--"+name {
			return os.Args[i+1]
		}
	}
	return ""
}

func standIn() {
	id, _ := strconv.Atoi(flag("id"))
	folder := strings.Split(flag("peers"), ",")[id]
	fd, _ := strconv.Atoi(flag("state-fd"))
	out := json.NewEncoder(os.NewFile(uintptr(fd), "state"))
	report := func(s node.State) { out.Encode(s) }
	mode, _ := os.ReadFile(filepath.Join(folder, "mode"))
	fmt.Fprintf(os.Stderr, "node in mode %q\n", mode)
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	gone := make(chan struct{})
	parent, _ := strconv.Atoi(flag("parent-fd"))
	node.WatchParent(parent, func() { close(gone) })
	switch string(mode) {
	case "":
		report(node.State{Role: "backup", Waiting: "the others"})
		report(node.State{Role: "backup", Serving: true, Epoch: 7})
	case "permanent":
		fmt.Fprintln(os.Stderr, "damaged at offset 42")
		os.Exit(node.ExitPermanent)
	case "broken":
		os.Exit(1)
	case "silent":
		report(node.State{Role: "backup", Waiting: "member 9"})
	case "failed":
		report(node.State{Role: "backup", Failed: "the primary was emptied"})
	case "stubborn":
		report(node.State{Role: "backup", Serving: true})
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	select {
	case <-terminated:
	case <-gone:
	}
}

// output is what people would see.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %q in:\n%s", pattern, o)
		}
	}
}

type fixture struct {
	t   *testing.T
	out output
	cfg Config
}

func newFixture(t *testing.T) *fixture {
	t.Setenv("DEV_TEST_NODE", "yes")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t}
	f.cfg = Config{Program: []string{self}, Nodes: 3, Port: freePorts(t, 3), Dir: filepath.Join(t.TempDir(), "data"), Out: &f.out, StopLimit: 5 * time.Second}
	for i := range f.cfg.Nodes {
		if err := os.MkdirAll(f.folder(i), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func freePorts(t *testing.T, n int) int {
	for base := 21000 + os.Getpid()%5000; base < 32000; base += n {
		free := 0
		for i := range n {
			if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", base+i)); err == nil {
				l.Close()
				free++
			}
		}
		if free == n {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

func (f *fixture) folder(i int) string { return filepath.Join(f.cfg.Dir, fmt.Sprint("node", i)) }

func (f *fixture) mode(i int, mode string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.folder(i), "mode"), []byte(mode), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// run starts the cluster and watches over it until the returned function is called.
func (f *fixture) run() (c *Cluster, stop func()) {
	f.t.Helper()
	c, err := Start(context.Background(), f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	c.Table()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		c.Run(ctx)
		close(done)
	}()
	stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			f.t.Fatal("it does not stop")
		}
	}
	f.t.Cleanup(stop)
	return c, stop
}

// pids are those that the table shows.
func (f *fixture) pids() (pids []int) {
	for _, m := range regexp.MustCompile(`(?m)^\d +127\.0\.0\.1:\d+ +\w+ +(\d+) `).FindAllStringSubmatch(f.out.String(), -1) {
		pid, _ := strconv.Atoi(m[1])
		pids = append(pids, pid)
	}
	if len(pids) != f.cfg.Nodes {
		f.t.Fatalf("the table shows %d processes:\n%s", len(pids), &f.out)
	}
	return pids
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestANodeThatDiesIsStartedAgain(t *testing.T) {
	f := newFixture(t)
	_, stop := f.run()
	pids := f.pids()
	for i, pid := range pids {
		if group, err := syscall.Getpgid(pid); err != nil || group != pid {
			t.Errorf("node %d (pid %d) is in process group %d: Ctrl-C in a terminal would reach it", i, pid, group)
		}
	}
	for _, try := range []string{fmt.Sprintf("redis-cli -p %d SET greeting hello", f.cfg.Port), fmt.Sprintf("redis-cli -p %d GET greeting", f.cfg.Port+2)} {
		if !strings.Contains(f.out.String(), try) {
			t.Errorf("no %q in:\n%s", try, &f.out)
		}
	}
	syscall.Kill(pids[1], syscall.SIGKILL)
	f.out.await(t, fmt.Sprintf(`node 1 \(pid %d\) was killed by signal 9 \(killed\); starting it again in 100ms`, pids[1]))
	back := f.out.await(t, fmt.Sprintf(`node 1 is back: pid (\d+), backup on 127.0.0.1:%d, epoch 7`, f.cfg.Port+1))
	if back[1] == fmt.Sprint(pids[1]) || !alive(pids[0]) || !alive(pids[2]) {
		t.Errorf("after one was killed: %v\n%s", back, &f.out)
	}
	pids[1], _ = strconv.Atoi(back[1])
	stop()
	f.out.await(t, "stopped; the data is kept in "+regexp.QuoteMeta(f.cfg.Dir))
	for i, pid := range pids {
		if alive(pid) {
			t.Errorf("node %d (pid %d) lives on", i, pid)
		}
	}
}

func TestANodeThatKeepsDyingIsStartedMoreAndMoreRarely(t *testing.T) {
	f := newFixture(t)
	f.run()
	f.mode(2, "broken")
	syscall.Kill(f.pids()[2], syscall.SIGTERM)
	f.out.await(t, `node 2 \(pid \d+\) ended with exit code 0; starting it again in 100ms`)
	f.out.await(t, `node 2 \(pid \d+\) ended with exit code 1; starting it again in 200ms`)
	f.out.await(t, `starting it again in 400ms`)
	f.mode(2, "")
	f.out.await(t, `node 2 is back`)
}

func TestPermanentErrorsAreNotRetried(t *testing.T) {
	f := newFixture(t)
	c, stop := f.run()
	f.mode(0, "permanent")
	pids := f.pids()
	syscall.Kill(pids[0], syscall.SIGKILL)
	f.out.await(t, `node 0 \(pid \d+\) ended with exit code 65, and will not be started again(.|\n)*damaged at offset 42`)
	if !alive(pids[1]) || !alive(pids[2]) {
		t.Error("the other nodes ended too")
	}
	stop()
	if c.nodes[0].running() {
		t.Error("it was started again")
	}
}

// startFails checks that Start ends with an error that says all of want, and leaves nothing behind.
func (f *fixture) startFails(want ...string) {
	f.t.Helper()
	_, err := Start(context.Background(), f.cfg)
	if err == nil {
		f.t.Fatalf("it starts; want an error with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			f.t.Errorf("%v; want %q in it", err, w)
		}
	}
	if free, err := node.OpenFolder(f.cfg.Dir, "test"); err != nil {
		f.t.Errorf("after the failure: %v", err)
	} else {
		free.Close()
	}
}

func TestStartFails(t *testing.T) {
	for mode, want := range map[string][]string{
		"permanent": {"node 1 ended with exit code 65", "damaged at offset 42"},
		"broken":    {"node 1 ended with exit code 1", `node in mode "broken"`},
		"silent":    {"not ready after 300ms", "node 1 waits for member 9", `node 1 | node in mode "silent"`},
		"failed":    {"node 1 does not serve: the primary was emptied"},
	} {
		t.Run(mode, func(t *testing.T) {
			f := newFixture(t)
			if mode == "silent" {
				f.cfg.ReadyLimit = 300 * time.Millisecond
			}
			f.mode(1, mode)
			f.startFails(want...)
		})
	}
	t.Run("settings", func(t *testing.T) {
		f := newFixture(t)
		good := f.cfg
		f.cfg.Nodes = 0
		f.startFails("--nodes 0", "1 to 7")
		f.cfg = good
		f.cfg.Nodes = MaxNodes + 1
		f.startFails("--nodes 8")
		f.cfg = good
		f.cfg.Port = 65534
		f.startFails("--port 65534", "65536")
	})
}

func TestInterruptedStartLeavesNothing(t *testing.T) {
	f := newFixture(t)
	f.mode(1, "silent")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, f.cfg); err == nil {
		t.Fatal("it is ready without node 1")
	}
	f.mode(1, "")
	f.run()
}

func TestAStubbornNodeIsKilled(t *testing.T) {
	f := newFixture(t)
	f.mode(2, "stubborn")
	f.cfg.StopLimit = 100 * time.Millisecond
	_, stop := f.run()
	pid := f.pids()[2]
	stop()
	if alive(pid) {
		t.Errorf("process %d lives on", pid)
	}
}

func TestAStoppedNodeStillStops(t *testing.T) {
	f := newFixture(t)
	_, stop := f.run()
	pid := f.pids()[1]
	syscall.Kill(pid, syscall.SIGSTOP)
	stop()
	if alive(pid) {
		t.Errorf("process %d lives on", pid)
	}
}

func TestTheFirstOneIsNamed(t *testing.T) {
	f := newFixture(t)
	f.run()
	if _, err := Start(context.Background(), f.cfg); err == nil || !strings.Contains(err.Error(), "process "+fmt.Sprint(os.Getpid())+" (whale dev)") || !strings.Contains(err.Error(), f.cfg.Dir) {
		t.Errorf("a second one on the same folder: %v", err)
	}
	// Somebody on a port, who tells his name.
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", f.cfg.Port+1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 100))
			info := "process_id:4711\r\nwhale_folder:/d/node1\r\n"
			fmt.Fprintf(c, "$%d\r\n%s\r\n", len(info), info)
			c.Close()
		}
	}()
	other := newFixture(t)
	other.cfg.Port = f.cfg.Port
	other.startFails(l.Addr().String(), "process 4711", "folder /d/node1", "--port")
}

// Nodes of a parent that died hold their folders for a moment.
func TestNodesOfADeadParentAreWaitedFor(t *testing.T) {
	f := newFixture(t)
	old, err := node.OpenFolder(f.folder(1), "whale node")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		f.out.await(t, `waiting for node 1 of an earlier run to end \(process \d+\)`)
		old.Close()
	}()
	f.run()
}

func TestLogTail(t *testing.T) {
	var l logTail
	for i := range 50 {
		fmt.Fprintf(&l, "line %d\nand a ha", i)
		fmt.Fprint(&l, "lf\n")
	}
	if got := l.last(); len(got) != keptLines || got[keptLines-1] != "and a half" || got[keptLines-2] != "line 49" {
		t.Errorf("%q", got)
	}
	var shown []string
	l.show(func(s string) { shown = append(shown, s) })
	l.Write([]byte(strings.Repeat("x", maxLine)))
	l.Write([]byte("the rest\n"))
	if len(shown) != 2 || len(shown[0]) != maxLine || shown[1] != "the rest" {
		t.Errorf("a line without an end is kept for ever: %d pieces", len(shown))
	}
}
