//go:build linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// A write that was acknowledged by one node is what every node answers from then on: written here, read there at once,
// a hundred thousand times. Each client has keys of its own, so that exactly one answer is right.
func TestAcknowledgedWriteIsReadEverywhere(t *testing.T) {
	c := newCluster(t, "--arena", "256MiB")
	const clients = 4
	total := size(100_000, 5)
	var stale, done atomic.Int64
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() {
			conns := make([]*conn, len(c.addrs))
			for i, addr := range c.addrs {
				var err error
				if conns[i], err = dial(addr); err != nil {
					t.Error(err)
					return
				}
				defer conns[i].close()
			}
			rng := rand.New(rand.NewPCG(uint64(id), 7))
			for n := range total / clients {
				key := fmt.Sprintf("fresh:%d:%d", id, rng.IntN(16))
				want := fmt.Sprintf("%d:%d", id, n)
				w := rng.IntN(len(conns))
				r := (w + 1 + rng.IntN(len(conns)-1)) % len(conns)
				if reply, err := conns[w].text("SET", key, want); err != nil || reply != "OK" {
					t.Errorf("SET at node %d: %q, %v", w, reply, err)
					return
				}
				got, err := conns[r].text("GET", key)
				if err != nil && err != errNil {
					t.Errorf("GET at node %d: %v", r, err)
					return
				}
				if got != want && stale.Add(1) <= 5 {
					t.Errorf("%s, acknowledged by node %d as %q, is %q at node %d", key, w, want, got, r)
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if t.Logf("%d writes read elsewhere, %d stale", done.Load(), stale.Load()); int(done.Load()) < total/clients*clients {
		t.Errorf("%d of %d were done", done.Load(), total)
	}
}
