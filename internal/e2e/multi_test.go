//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestOptimisticCounters: clients at all nodes read a counter under WATCH and write one more in EXEC. Each EXEC that ran
// counts, each that was refused does not: an update that is lost, or made twice, shows in the sum.
func TestOptimisticCounters(t *testing.T) {
	for _, threads := range []string{"1", "3"} {
		t.Run("threads="+threads, func(t *testing.T) { optimisticCounter(t, newCluster(t, "--threads", threads)) })
	}
}

func optimisticCounter(t *testing.T, c *cluster) {
	key := "counter:" + t.Name()
	var wg sync.WaitGroup
	var mu sync.Mutex
	done, refused := 0, 0
	for id := range 2 * len(c.addrs) {
		wg.Go(func() {
			cl := redis.NewClient(&redis.Options{Addr: c.addrs[id%len(c.addrs)], Protocol: 2 + id%2, MaxRetries: -1, ReadTimeout: 20 * time.Second})
			defer cl.Close()
			for range size(200, 20) {
				err := cl.Watch(t.Context(), func(tx *redis.Tx) error {
					n, err := tx.Get(t.Context(), key).Int()
					if err != nil && !errors.Is(err, redis.Nil) {
						return err
					}
					_, err = tx.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
						p.Set(t.Context(), key, n+1, 0)
						p.Ping(t.Context())
						p.Get(t.Context(), key)
						return nil
					})
					return err
				}, key)
				mu.Lock()
				switch {
				case err == nil:
					done++
				case errors.Is(err, redis.TxFailedErr):
					refused++
				default:
					t.Errorf("client %d: %v", id, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got, err := c.once(1, "GET", key); err != nil || got != strconv.Itoa(done) {
		t.Errorf("the counter is at %q, %v after %d transactions (%d were refused)", got, err, done, refused)
	}
	if done == 0 {
		t.Error("no transaction ever ran")
	}
}

// TestPairsAreNeverSplit: transactions that keep two keys equal, readers that look at both.
func TestPairsAreNeverSplit(t *testing.T) {
	c := newCluster(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, addr := range c.addrs {
		wg.Go(func() {
			cl := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ReadTimeout: 20 * time.Second})
			defer cl.Close()
			for n := 0; ctx.Err() == nil && n < 100_000; n++ { // the arena holds no more, and is not reused
				v := fmt.Sprint(i, ".", n)
				if _, err := cl.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
					p.Set(t.Context(), "pair:a", v, 0)
					p.Set(t.Context(), "pair:b", v, 0)
					return nil
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i, addr := range c.addrs {
		cl := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ReadTimeout: 20 * time.Second})
		for range size(2000, 100) {
			v, err := cl.MGet(t.Context(), "pair:a", "pair:b").Result()
			if err != nil || v[0] != v[1] {
				t.Errorf("node %d: %v, %v", i, v, err)
				break
			}
		}
		cl.Close()
	}
	stop()
	wg.Wait()
}

// TestDeadlinesSurviveKill: what was to expire does, and not before, although every process was killed meanwhile.
func TestDeadlinesSurviveKill(t *testing.T) {
	c := ownCluster(t)
	c.start()
	c.awaitReady()
	for _, set := range [][]string{{"SET", "soon", "v", "PX", "700"}, {"SET", "late", "v", "EX", "1000"}, {"SET", "never", "v"}} {
		if reply, err := c.once(1, set...); err != nil || reply != "OK" {
			t.Fatalf("%q: %q, %v", set, reply, err)
		}
	}
	at, err := c.once(0, "PEXPIRETIME", "late")
	if err != nil {
		t.Fatal(err)
	}
	pids := c.pids()
	c.killDev()
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL) // they may have gone with the parent already
	}
	c.start()
	c.awaitReady()
	for i := range c.addrs {
		if got, err := c.once(i, "PEXPIRETIME", "late"); err != nil || got != at {
			t.Errorf("node %d: the deadline is %q, %v; it was %s", i, got, err, at)
		}
		if got, err := c.once(i, "GET", "never"); err != nil || got != "v" {
			t.Errorf("node %d: a key without a deadline: %q, %v", i, got, err)
		}
	}
	await(t, 20*time.Second, func() error {
		for i := range c.addrs {
			if got, err := c.once(i, "EXISTS", "soon", "late"); err != nil || got != "1" {
				return fmt.Errorf("node %d: %q of the two keys exist, %v", i, got, err)
			}
		}
		return nil
	})
	if got, err := c.once(2, "DBSIZE"); err != nil || got != "3" { // with the key of the readiness probe
		t.Errorf("DBSIZE: %q, %v", got, err)
	}
}
