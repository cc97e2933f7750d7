//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// voluntarySwitches is how often the threads of a process went to sleep so far.
func voluntarySwitches(t testing.TB, pid int) (n int) {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if len(files) == 0 {
		t.Fatalf("process %d has no threads", pid)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		line, _, _ := strings.Cut(rest, "\n")
		k, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		n += k
	}
	return n
}

// cpuTime is what a process has used, in user and kernel mode, to 10 ms.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name in front may have spaces
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, err := strconv.Atoi(fields[12])
	if err != nil {
		t.Fatal(err)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick
}

// One-sidedness, observed: a million writes at the primary, each waited for, and the backups sleep through them. What
// wakes them is the little that keeps their rings from running full.
func TestBackupsSleepThroughWrites(t *testing.T) {
	if external != nil {
		t.Skip("needs the processes")
	}
	if fabric == "tcp" {
		t.Skip("over TCP, a goroutine of the backup's process plays the network card, and wakes up for each write")
	}
	c := newCluster(t, "--arena", "512MiB")
	total := size(1_000_000, 1)
	p, backups := c.primary(), c.backups()
	pids := c.pids()
	before := map[int]int{}
	for _, b := range backups {
		before[b] = voluntarySwitches(t, pids[b])
	}
	began := time.Now()
	clients := []int{1, 8} // the first half by one client, then by eight at a time
	for _, n := range clients {
		hammer(t, c.addrs[p], n, total/len(clients)/n)
	}
	t.Logf("%d SETs in %v", total, time.Since(began).Round(time.Millisecond))
	for _, b := range backups {
		grown := voluntarySwitches(t, pids[b]) - before[b]
		t.Logf("backup %d: %d voluntary context switches", b, grown)
		if grown*20 >= total {
			t.Errorf("backup %d went to sleep %d times during %d writes: something on their path waits for it", b, grown, total)
		}
	}
	// The count must be of something that does grow: the primary answers each of them.
	if n := voluntarySwitches(t, pids[p]); n < total/100 {
		t.Errorf("the primary went to sleep %d times only: is that the right process?", n)
	}
	// The backups have it all, although they slept.
	for _, b := range backups {
		if got, err := c.once(b, "GET", "hammer:0"); err != nil || got != fmt.Sprint(total/len(clients)/clients[len(clients)-1]-1) {
			t.Errorf("backup %d has %q, %v", b, got, err)
		}
	}
}

// hammer lets clients send n SETs each, one after another, to keys of their own.
func hammer(t testing.TB, addr string, clients, n int) {
	t.Helper()
	errs := make(chan error, clients)
	for id := range clients {
		go func() {
			errs <- func() error {
				c, err := dial(addr)
				if err != nil {
					return err
				}
				defer c.close()
				key := fmt.Sprintf("hammer:%d", id)
				for i := range n {
					if reply, err := c.text("SET", key, strconv.Itoa(i)); err != nil || reply != "OK" {
						return fmt.Errorf("SET %d of %d: %q, %v", i, n, reply, err)
					}
				}
				return nil
			}()
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

// An idle cluster costs nothing: no process polls, no timer ticks fast.
func TestIdleClusterCostsNothing(t *testing.T) {
	if external != nil {
		t.Skip("needs the processes")
	}
	c := newCluster(t)
	pids := append(c.pids(), c.dev.Process.Pid)
	hammer(t, c.addrs[c.primary()], 4, 1000)
	const window = 3 * time.Second
	var report string
	for range 4 { // a garbage collection, or what is left to be done from before, may disturb a window
		before := make([]time.Duration, len(pids))
		for i, pid := range pids {
			before[i] = cpuTime(t, pid)
		}
		time.Sleep(window)
		idle := true
		report = ""
		for i, pid := range pids {
			used := cpuTime(t, pid) - before[i]
			report += fmt.Sprintf(" %d: %v", i, used)
			idle = idle && used < window/100
		}
		if idle {
			t.Logf("CPU time in %v (node 3 is the parent):%s", window, report)
			return
		}
	}
	t.Errorf("CPU time in %v, wanted under 1%% (node 3 is the parent):%s", window, report)
}
