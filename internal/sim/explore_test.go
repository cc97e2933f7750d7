package sim

import (
	"context"
	"os"
	"testing"
	"time"

	"whale/internal/replication/whale"
	"whale/internal/shard"
)

// Every order of the events of tiny clusters is tried. Scopes that take longer are for WHALE_SIM=long.
func TestEveryOrder(t *testing.T) {
	for _, s := range []struct {
		name  string
		long  bool
		scope Scope
	}{
		{"a write, a read at P", false, Scope{Writes: []int{0}, Reads: []int{0}}},
		{"a write, a read at P, a crash", false, Scope{Writes: []int{0}, Reads: []int{0}, Crash: true}},
		{"a write, a read", true, Scope{Writes: []int{0}, Reads: []int{1}}},
		{"a large write, a read at the follower", true, Scope{Writes: []int{0}, Reads: []int{2}, Large: true, Batches: true}},
		{"a write, a read, a crash, batches", true, Scope{Writes: []int{0}, Reads: []int{1}, Crash: true, Batches: true}},
		{"a write, two reads, batches", true, Scope{Writes: []int{0}, Reads: []int{1, 2}, Batches: true}},
		{"two writes, a read, batches", true, Scope{Writes: []int{0, 0}, Reads: []int{2}, Batches: true}},
		{"two writes, a read, a crash, batches", true, Scope{Writes: []int{0, 0}, Reads: []int{0}, Crash: true, Batches: true}},
		{"two writes, two reads, batches", true, Scope{Writes: []int{0, 0}, Reads: []int{1, 2}, Batches: true, Most: 10_000}},
	} {
		if s.long && os.Getenv("WHALE_SIM") != "long" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			start := time.Now()
			found, err := Explore(context.Background(), s.scope)
			if err != nil {
				t.Fatal(err)
			}
			if v := found.Violation; v != nil {
				t.Fatalf("%v\n%s", v, found.Story)
			}
			if !found.Complete && s.scope.Most == 0 || found.Ended == 0 && found.Complete {
				t.Errorf("exploring stopped early: %+v", found)
			}
			t.Logf("%d states, %d transitions, %d crashes, %d ends, all of them: %v; %v", found.States, found.Transitions, found.Crashes, found.Ended, found.Complete, time.Since(start).Round(time.Millisecond))
		})
	}
}

func TestEveryOrderFindsBrokenVariants(t *testing.T) {
	for _, v := range []struct {
		name  string
		scope Scope
	}{
		{"trap 1", Scope{Writes: []int{0}, Reads: []int{1}, Broken: Broken{Core: whale.FaultEarlyCommit}}},
		{"trap 2", Scope{Writes: []int{0}, Reads: []int{2}, Broken: Broken{Core: whale.FaultDataOnly}}},
		{"trap 2, the reader", Scope{Writes: []int{0}, Reads: []int{1, 2}, Broken: Broken{Engine: shard.FaultKnownS}}},
		{"a read joins an earlier one", Scope{Writes: []int{0}, Reads: []int{1, 1}, Batches: true, Broken: Broken{Engine: shard.FaultJoinRefresh}}},
		{"trap 3", Scope{Writes: []int{0}, Reads: []int{0}, Broken: Broken{Engine: shard.FaultReadUnstable}}},
	} {
		found, err := Explore(context.Background(), v.scope)
		if err != nil {
			t.Fatal(err)
		}
		if found.Violation == nil {
			t.Errorf("%s: %d states, and nothing is wrong", v.name, found.States)
			continue
		}
		t.Logf("%s: %d states, %v", v.name, found.States, found.Violation)
	}
}
