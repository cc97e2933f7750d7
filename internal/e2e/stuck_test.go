//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// limit is --timeout in these tests: short, for they wait for it.
const limit = time.Second

// late is after how long a client that should have got its answer within limit gives up.
const late = 5 * limit

// patient is one request by a client that gives up late; how long its answer took.
func (c *cluster) patient(node int, args ...string) (text string, took time.Duration, err error) {
	conn, err := dial(c.addrs[node])
	if err != nil {
		return "", 0, err
	}
	defer conn.close()
	conn.limit = late
	began := time.Now()
	text, err = conn.text(args...)
	return text, time.Since(began), err
}

// refusedInTime checks that a write fails by a reply that says what its outcome is.
func refusedInTime(t testing.TB, c *cluster, node int, outcome ...string) {
	t.Helper()
	reply, took, err := c.patient(node, "SET", "during", "x")
	var refused replyError
	if !errors.As(err, &refused) {
		t.Errorf("SET at node %d: %q, %v after %v; want an error reply", node, reply, err, took)
		return
	}
	for _, text := range outcome {
		if strings.Contains(err.Error(), text) {
			t.Logf("SET at node %d: %v after %v", node, err, took.Round(time.Millisecond))
			return
		}
	}
	t.Errorf("SET at node %d: %v; want one of %q", node, err, outcome)
}

// readsGoOn checks that a node answers the key "before" from its own memory, at once.
func readsGoOn(t testing.TB, c *cluster, node int) {
	t.Helper()
	if got, took, err := c.patient(node, "GET", "before"); err != nil || got != "1" || took > limit/2 {
		t.Errorf("GET at node %d: %q, %v after %v", node, got, err, took)
	}
}

// A backup's process is gone for good. Writes fail in time and say what their outcome is, reads at the others go on, and
// when the backup is back so is everything.
func TestBackupGone(t *testing.T) {
	c := ownCluster(t, "--timeout", limit.String())
	c.start()
	c.awaitReady()
	p, b := c.primary(), c.backups()
	if reply, err := c.once(p, "SET", "before", "1"); err != nil || reply != "OK" {
		t.Fatal(reply, err)
	}
	dead := c.pid(b[1])
	signal(t, c.dev.Process.Pid, syscall.SIGSTOP) // so that it does not restart the backup
	signal(t, dead, syscall.SIGKILL)
	// Until the end of the process is noticed writes may still land in its memory, which is a file.
	await(t, 10*time.Second, func() error {
		if reply, _, err := c.patient(p, "SET", "during", "0"); err == nil {
			return fmt.Errorf("SET while a backup is gone: %q", reply)
		}
		return nil
	})
	for _, node := range []int{p, b[0]} {
		refusedInTime(t, c, node, "not executed", "outcome unknown")
		readsGoOn(t, c, node)
	}
	signal(t, c.dev.Process.Pid, syscall.SIGCONT)
	c.awaitReady()
	for node := range nodes {
		readsGoOn(t, c, node)
	}
}

// The primary is stopped for longer than the limit. A write that was forwarded to it fails in time, its outcome unknown;
// a clean key is read at the backups as ever.
func TestPrimaryStopped(t *testing.T) {
	c := ownCluster(t, "--timeout", limit.String())
	c.start()
	c.awaitReady()
	p, b := c.primary(), c.backups()
	if reply, err := c.once(p, "SET", "before", "1"); err != nil || reply != "OK" {
		t.Fatal(reply, err)
	}
	for _, node := range b {
		readsGoOn(t, c, node)
	}
	pid := c.pid(p)
	signal(t, pid, syscall.SIGSTOP)
	defer syscall.Kill(pid, syscall.SIGCONT)
	for _, node := range b {
		refusedInTime(t, c, node, "outcome unknown")
		readsGoOn(t, c, node)
	}
	signal(t, pid, syscall.SIGCONT)
	c.awaitReady()
	for node := range nodes {
		readsGoOn(t, c, node)
	}
}

// A backup is stopped for longer than the limit, while so much is written that its ring runs full. Nothing hangs: each
// request is answered in time, and afterwards every write that was acknowledged is there.
func TestBackupStoppedUntilItsRingIsFull(t *testing.T) {
	c := ownCluster(t, "--timeout", limit.String(), "--arena", "256MiB")
	c.start()
	c.awaitReady()
	p, b := c.primary(), c.backups()
	for _, stopped := range b {
		t.Run(fmt.Sprintf("backup%d", stopped), func(t *testing.T) {
			pid := c.pid(stopped)
			signal(t, pid, syscall.SIGSTOP)
			defer syscall.Kill(pid, syscall.SIGCONT)
			conn, err := dial(c.addrs[p])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.close()
			conn.limit = late
			acked := map[string]string{}
			failed, sent := 0, 0
			const batch = 512
			for began := time.Now(); failed == 0; {
				if sent > 1_000_000 || time.Since(began) > 30*time.Second {
					t.Fatalf("%d writes, and none failed although a backup is stopped", sent)
				}
				for i := range batch {
					if err := conn.send("SET", fmt.Sprintf("stopped:%d", i), fmt.Sprint(sent+i)); err != nil {
						t.Fatal(err)
					}
				}
				for i := range batch {
					reply, err := conn.receiveText()
					var refused replyError
					switch {
					case err == nil && reply == "OK":
						acked[fmt.Sprintf("stopped:%d", i)] = fmt.Sprint(sent + i)
					case errors.As(err, &refused):
						if failed++; failed == 1 {
							t.Logf("after %d writes: %v", sent+i, err)
						}
						delete(acked, fmt.Sprintf("stopped:%d", i)) // it may have happened, so the older value may be gone
					default:
						t.Fatalf("write %d: %q, %v", sent+i, reply, err)
					}
				}
				sent += batch
			}
			if got, err := c.once(p, "GET", "ready"); err != nil {
				t.Errorf("GET at the primary meanwhile: %q, %v", got, err)
			}
			signal(t, pid, syscall.SIGCONT)
			c.awaitReady()
			for key, want := range acked {
				for i := range nodes {
					if got, err := c.once(i, "GET", key); err != nil || got != want {
						t.Fatalf("%s at node %d: %q, %v; acknowledged: %q", key, i, got, err, want)
					}
				}
			}
		})
	}
}

// A full arena refuses writes with an error that says so; reads and deletions go on.
func TestFullArena(t *testing.T) {
	c := newCluster(t, "--arena", "32MiB")
	if external != nil {
		t.Skip("needs a small arena")
	}
	conns := make([]*conn, nodes)
	for i, addr := range c.addrs {
		var err error
		if conns[i], err = dial(addr); err != nil {
			t.Fatal(err)
		}
		defer conns[i].close()
	}
	stored := 0
	for ; ; stored++ {
		reply, err := conns[stored%nodes].text("SET", fmt.Sprintf("full:%d", stored), value(stored, 60_000))
		if err == nil && reply == "OK" {
			if stored > 2000 {
				t.Fatal("120 MB fit an arena of 32 MiB")
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), "OOM ") {
			t.Fatalf("write %d: %q, %v; want -OOM", stored, reply, err)
		}
		break
	}
	if stored < 150 {
		t.Errorf("only %d values of 60 kB fit an arena of 32 MiB", stored)
	}
	for i, conn := range conns {
		if _, err := conn.text("SET", "full:more", value(1, 60_000)); err == nil || !strings.HasPrefix(err.Error(), "OOM ") {
			t.Errorf("SET at node %d: %v; want -OOM", i, err)
		}
		for k := i; k < stored; k++ { // those below were deleted at the nodes before
			if got, err := conn.text("GET", fmt.Sprintf("full:%d", k)); err != nil || got != value(k, 60_000) {
				t.Fatalf("GET %d at node %d: %.40q, %v", k, i, got, err)
			}
		}
		if n, err := conn.text("DEL", fmt.Sprintf("full:%d", i)); err != nil || n != "1" {
			t.Errorf("DEL at node %d: %q, %v", i, n, err)
		}
		if n, err := conn.text("EXISTS", fmt.Sprintf("full:%d", i)); err != nil || n != "0" {
			t.Errorf("EXISTS at node %d after DEL: %q, %v", i, n, err)
		}
	}
}
