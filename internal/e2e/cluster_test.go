//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const nodes = 3

// cluster is a running `whale dev`, or the external servers.
type cluster struct {
	t     testing.TB
	args  []string
	dir   string
	log   string
	addrs []string
	dev   *exec.Cmd
	gone  chan struct{} // closed when dev has ended
	from  int           // how much of the log earlier runs of dev wrote
}

// newCluster starts a cluster with a small arena and these further flags, and waits until every node serves.
func newCluster(t testing.TB, flags ...string) *cluster {
	t.Helper()
	if external != nil {
		return &cluster{t: t, addrs: external}
	}
	c := ownCluster(t, flags...)
	c.start()
	c.awaitReady()
	return c
}

// ownCluster is a cluster that is not started yet, and never an external one.
func ownCluster(t testing.TB, flags ...string) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	if external != nil {
		t.Skip("needs processes of its own")
	}
	dir := memoryDir(t)
	c := &cluster{t: t, dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "log")}
	base := freePorts(t)
	c.args = append([]string{"dev", "--nodes", strconv.Itoa(nodes), "--port", strconv.Itoa(base), "--dir", c.dir}, flags...)
	if fabric != "" {
		c.args = append(c.args, "--fabric", fabric)
	}
	if !slices.Contains(flags, "--arena") {
		c.args = append(c.args, "--arena", "128MiB")
	}
	for i := range nodes {
		c.addrs = append(c.addrs, fmt.Sprintf("127.0.0.1:%d", base+i))
	}
	t.Cleanup(func() {
		c.stop()
		if t.Failed() {
			t.Logf("the end of what the cluster printed:\n%s", tail(c.printed(), 6000))
		}
	})
	return c
}

// memoryDir is a folder for a test's data, where possible in memory: the disk would have its share in every figure and in
// the time that the tests take, and for a process that is killed there is no difference.
func memoryDir(t testing.TB) string {
	const shm = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 8<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "whale-e2e-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// freePorts finds consecutive ports below the range from which the kernel takes the local ports of connections.
func freePorts(t testing.TB) int {
	for range 100 {
		base := 20000 + rand.IntN(12000)
		free := 0
		for port := base; port < base+nodes; port++ {
			if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				l.Close()
				free++
			}
		}
		if free == nodes {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// start runs `whale dev`; what it prints is appended to the log.
func (c *cluster) start() {
	c.t.Helper()
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	c.from = len(c.printed())
	c.dev = exec.Command(binary, c.args...)
	c.dev.Stdout, c.dev.Stderr = out, out
	c.dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := c.dev.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.gone = make(chan struct{})
	go func(cmd *exec.Cmd, gone chan struct{}) {
		cmd.Wait()
		close(gone)
	}(c.dev, c.gone)
}

// stop ends it as Ctrl-C does, and waits for that.
func (c *cluster) stop() {
	if c.dev == nil {
		return
	}
	c.dev.Process.Signal(syscall.SIGCONT)
	c.dev.Process.Signal(os.Interrupt)
	select {
	case <-c.gone:
	case <-time.After(20 * time.Second):
		c.t.Errorf("whale dev did not end within 20 s of Ctrl-C")
		syscall.Kill(-c.dev.Process.Pid, syscall.SIGKILL)
		<-c.gone
	}
	c.dev = nil
}

// killDev ends the parent without a chance to clean up.
func (c *cluster) killDev() {
	c.dev.Process.Kill()
	<-c.gone
	c.dev = nil
}

func (c *cluster) printed() string {
	text, _ := os.ReadFile(c.log)
	return string(text)
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// awaitPrinted waits until everything of want was printed after the first `from` bytes of the log.
func (c *cluster) awaitPrinted(from int, want ...string) {
	c.t.Helper()
	await(c.t, 20*time.Second, func() error {
		text := c.printed()[from:]
		for _, w := range want {
			if !strings.Contains(text, w) {
				return fmt.Errorf("not printed: %q in\n%s", w, tail(text, 4000))
			}
		}
		return nil
	})
}

// awaitReady waits until every node takes a write and every node reads it, and whale dev knows that they are up: a node
// that ends while dev still waits for the start takes the cluster with it.
func (c *cluster) awaitReady() {
	c.t.Helper()
	await(c.t, 30*time.Second, func() error {
		if c.dev != nil {
			select {
			case <-c.gone:
				return fmt.Errorf("whale dev ended:\n%s", tail(c.printed(), 4000))
			default:
			}
			if !strings.Contains(c.printed()[c.from:], "Ctrl-C stops it.") {
				return errors.New("whale dev has not said that the cluster is up")
			}
		}
		for i := range c.addrs {
			if err := c.probe(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// probe writes at node i and reads at all.
func (c *cluster) probe(i int) error {
	value := strconv.FormatUint(rand.Uint64(), 36)
	if reply, err := c.once(i, "SET", "ready", value); err != nil || reply != "OK" {
		return fmt.Errorf("SET at node %d: %q, %v", i, reply, err)
	}
	for j := range c.addrs {
		if reply, err := c.once(j, "GET", "ready"); err != nil || reply != value {
			return fmt.Errorf("GET at node %d: %q, %v", j, reply, err)
		}
	}
	return nil
}

// once asks node i on a connection of its own.
func (c *cluster) once(i int, args ...string) (string, error) {
	conn, err := dial(c.addrs[i])
	if err != nil {
		return "", err
	}
	defer conn.close()
	return conn.text(args...)
}

// info is a field of INFO at node i.
func (c *cluster) info(i int, field string) string {
	c.t.Helper()
	text, err := c.once(i, "INFO")
	if err != nil {
		c.t.Fatalf("INFO at node %d: %v", i, err)
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	c.t.Fatalf("INFO at node %d has no %s:\n%s", i, field, text)
	return ""
}

// pid of node i's process.
func (c *cluster) pid(i int) int {
	c.t.Helper()
	pid, err := strconv.Atoi(c.info(i, "process_id"))
	if err != nil || pid <= 1 {
		c.t.Fatalf("process_id of node %d: %d, %v", i, pid, err)
	}
	return pid
}

func (c *cluster) pids() (pids []int) {
	for i := range c.addrs {
		pids = append(pids, c.pid(i))
	}
	return pids
}

// primary is the node that executes writes.
func (c *cluster) primary() int {
	for i := range c.addrs {
		if r := c.info(i, "role"); r == "primary" || r == "master" {
			return i
		}
	}
	c.t.Fatal("no node says that it is the primary")
	return 0
}

// backups are the others.
func (c *cluster) backups() (b []int) {
	p := c.primary()
	for i := range c.addrs {
		if i != p {
			b = append(b, i)
		}
	}
	return b
}

// folder of node i: the one with its whale.pid.
func (c *cluster) folder(pid int) string {
	c.t.Helper()
	files, _ := filepath.Glob(filepath.Join(c.dir, "*", "whale.pid"))
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(text)) == strconv.Itoa(pid) {
			return filepath.Dir(f)
		}
	}
	c.t.Fatalf("no whale.pid below %s has %d", c.dir, pid)
	return ""
}

// memoryWith is the file in folder that has the bytes, and where.
func (c *cluster) memoryWith(folder string, want []byte) (path string, off int64) {
	c.t.Helper()
	filepath.WalkDir(folder, func(p string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if b, err := os.ReadFile(p); err == nil {
			if i := bytes.Index(b, want); i >= 0 {
				path, off = p, int64(i)
			}
		}
		return nil
	})
	if path == "" {
		c.t.Fatalf("no file in %s has the record", folder)
	}
	return path, off
}

// await tries until ok returns nil; after d it fails the test with the last error.
func await(t testing.TB, d time.Duration, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(d)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", d, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// signal one process.
func signal(t testing.TB, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatalf("signal %v to %d: %v", s, pid, err)
	}
	if s == syscall.SIGSTOP {
		await(t, 10*time.Second, func() error { return stopped(pid) })
	}
}

// stopped says which thread of the process still runs: they stop one by one, some time after the signal was sent.
func stopped(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("process %d has no threads: %v", pid, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			return err
		}
		if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
			return fmt.Errorf("%s: state %.1s after SIGSTOP", thread, state)
		}
	}
	return nil
}

// alive says whether pid exists and is no zombie.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}
