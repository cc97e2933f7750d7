package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"whale/internal/replication/whale"
	"whale/internal/shard"
	"whale/internal/store"
)

// explore tries every order of a scope that has nothing wrong with it.
func explore(t *testing.T, s Scope) *Explored {
	t.Helper()
	start := time.Now()
	if os.Getenv("WHALE_SIM") == "" {
		s.Workers = 1 // another cluster costs more than it gains
	}
	found, err := Explore(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	if v := found.Violation; v != nil {
		t.Fatalf("%v\n%s", v, found.Story)
	}
	if !found.Complete || found.Ended == 0 {
		t.Errorf("exploring stopped early: %+v", found)
	}
	t.Logf("%d states, %d steps, %d crashes, %d recoveries, %d ends; %v", found.States, found.Transitions, found.Crashes, found.Recoveries, found.Ended, time.Since(start).Round(time.Millisecond))
	return found
}

// Every order of the events of tiny clusters is tried. Scopes that take longer are for WHALE_SIM=long, the longest for
// WHALE_SIM=all.
func TestEveryOrder(t *testing.T) {
	for _, s := range []struct {
		name  string
		long  string // the values of WHALE_SIM with which it is tried; "": always
		scope Scope
	}{
		{"a write, a read at P, all reports", "", Scope{Writes: []int{0}, Reads: []int{0}, Reports: true}},
		{"a write, a read at the mirror, a crash", "", Scope{Writes: []int{0}, Reads: []int{1}, Crash: true}},
		{"a write, a read at each backup", "", Scope{Writes: []int{0}, Reads: []int{1, 2}}},
		{"a write, a read at each backup, all reports", "long all", Scope{Writes: []int{0}, Reads: []int{1, 2}, Reports: true}},
		{"a write, a read at each backup, a crash", "long all", Scope{Writes: []int{0}, Reads: []int{1, 2}, Crash: true}},
		{"a large write, a read at the follower", "long all", Scope{Writes: []int{0}, Reads: []int{2}, Large: true}},
		{"a write at the mirror, a read at P", "long all", Scope{Writes: []int{1}, Reads: []int{0}}},
		{"a read at P, a crash, every recovery", "long all", Scope{Reads: []int{0}, Crash: true, Recover: true}},
		{"two writes, a read at the follower", "long all", Scope{Writes: []int{0, 0}, Reads: []int{2}}},
		{"two writes, reads at P and the mirror, a crash", "long all", Scope{Writes: []int{0, 0}, Reads: []int{0, 1}, Crash: true}},
		{"two writes, a read at each backup", "long", Scope{Writes: []int{0, 0}, Reads: []int{1, 2}}},
		{"two writes, a read at each backup, a crash", "all", Scope{Writes: []int{0, 0}, Reads: []int{1, 2}, Crash: true}},
	} {
		if s.long != "" && !slices.Contains(strings.Fields(s.long), os.Getenv("WHALE_SIM")) {
			continue
		}
		t.Run(s.name, func(t *testing.T) { explore(t, s.scope) })
	}
}

// seen is what clients saw at the end: each answer, and what was answered before it was asked.
func seen(ops []*op) (text string) {
	for _, o := range ops {
		text += fmt.Sprintf("%v after %b; ", o.replies, o.before)
	}
	return text
}

// Putting off what lands, and trying one of two orders that come to the same, loses no history: with every landing as an
// event of its own, and all orders of all events, clients see neither more nor less.
func TestReductionsLoseNothing(t *testing.T) {
	scopes := []Scope{
		{Writes: []int{0}, Reads: []int{0}},
		{Writes: []int{0}, Reads: []int{1}},
	}
	if os.Getenv("WHALE_SIM") != "" {
		scopes = append(scopes, Scope{Writes: []int{0}, Reads: []int{2}}, Scope{Writes: []int{1}, Reads: []int{0}},
			Scope{Writes: []int{0}, Reads: []int{2}, Large: true}, Scope{Writes: []int{0}, Reads: []int{1, 2}}, Scope{Writes: []int{0}, Reads: []int{1, 1}})
	}
	for _, s := range scopes {
		histories := func(s Scope) (all []string, states int) {
			known := map[string]bool{}
			s.whole = true
			s.ended = func(ops []*op) { known[seen(ops)] = true }
			found := explore(t, s)
			for h := range known {
				all = append(all, h)
			}
			slices.Sort(all)
			return all, found.States
		}
		every := s
		every.Each, every.Reports, every.wakeful = true, true, true
		want, _ := histories(every)
		for _, reports := range []bool{true, false} {
			s.Reports = reports
			got, states := histories(s)
			awake := s
			awake.wakeful = true
			if _, n := histories(awake); n != states {
				t.Errorf("writes at %v, reads at %v, reports %v: %d states, and %d when nothing sleeps", s.Writes, s.Reads, reports, states, n)
			}
			if !slices.Equal(got, want) {
				t.Errorf("writes at %v, reads at %v, reports %v: %d histories, want %d\n%q\n%q", s.Writes, s.Reads, reports, len(got), len(want), got, want)
			}
		}
		if len(want) < 3 {
			t.Errorf("writes at %v, reads at %v: only %q", s.Writes, s.Reads, want)
		}
	}
}

// Two states of one digest have the same ways on, and these lead to states of the same digests: what the digest leaves out
// decides about nothing.
func TestEqualStatesHaveEqualFutures(t *testing.T) {
	scopes := []Scope{
		{Writes: []int{0}, Reads: []int{1}},
		{Writes: []int{1}, Reads: []int{0}},
	}
	if os.Getenv("WHALE_SIM") != "" {
		scopes = append(scopes, Scope{Writes: []int{0}, Reads: []int{2}, Large: true}, Scope{Writes: []int{0, 0}, Reads: []int{1}, Reports: true, Most: 5000})
	}
	for _, s := range scopes {
		world, err := newWorld(&s)
		if err != nil {
			t.Fatal(err)
		}
		w := &walker{x: &explorer{scope: &s}, world: world, rng: rand.New(rand.NewPCG(1, 1))}
		w.learnAll()
		futures := map[uint64]string{}
		again := 0
		var visit func()
		visit = func() {
			point := w.graph.Save()
			all := world.choices()
			future := fmt.Sprint(all, world.seen.explained)
			for _, c := range all {
				world.take(c)
				future += fmt.Sprintf(" %x", w.d.of(world))
				w.graph.Restore(point)
			}
			d := w.d.of(world)
			before, known := futures[d]
			if known && before != future {
				t.Fatalf("one digest, two futures:\n%s\n%s", before, future)
			}
			if known {
				again++
			}
			futures[d] = future
			if s.Most > 0 && len(futures) > s.Most || known {
				return
			}
			for _, c := range all { // also those whose state is known, to compare
				world.take(c)
				visit()
				w.graph.Restore(point)
			}
			w.graph.Drop(point)
		}
		visit()
		if w.graph.Learn() > 0 || again < 100 {
			t.Errorf("%d states, compared %d times: the test shows little", len(futures), again)
		}
		t.Logf("%d states, compared %d times", len(futures), again)
	}
}

func TestEveryOrderFindsBrokenVariants(t *testing.T) {
	type variant struct {
		name  string
		scope Scope
	}
	variants := []variant{
		{"trap 1", Scope{Writes: []int{0}, Reads: []int{1}, Broken: Broken{Core: whale.FaultEarlyCommit}}},
		{"trap 2", Scope{Writes: []int{0}, Reads: []int{2}, Broken: Broken{Core: whale.FaultDataOnly}}},
		{"trap 2, the reader", Scope{Writes: []int{0}, Reads: []int{1, 2}, Broken: Broken{Engine: shard.FaultKnownS}}},
		{"a read joins an earlier one", Scope{Writes: []int{0}, Reads: []int{1, 1}, Broken: Broken{Engine: shard.FaultJoinRefresh}}},
		{"trap 3", Scope{Writes: []int{0}, Reads: []int{0}, Broken: Broken{Engine: shard.FaultReadUnstable}}},
		{"S is off by one", Scope{Writes: []int{0, 0}, Reads: []int{1}, Broken: Broken{Core: whale.FaultOffByOne}}},
		{"everywhere too early", Scope{Writes: []int{0}, Reads: []int{2}, Large: true, Broken: Broken{Core: whale.FaultEarlyEverywhere}}},
		{"data visible, not durable", Scope{Writes: []int{0}, Reads: []int{1}, Broken: Broken{Core: whale.FaultVisibleData}}},
		{"forwarded without a flush", Scope{Writes: []int{0}, Reads: []int{2}, Large: true, Broken: Broken{Core: whale.FaultForwardWritten}}},
		{"no drain before a read", Scope{Writes: []int{0}, Reads: []int{1}, Broken: Broken{Store: store.FaultNoDrain}}},
		{"pending versions overlooked", Scope{Writes: []int{0}, Reads: []int{1}, Broken: Broken{Store: store.FaultNoPending}}},
		{"P does not persist", Scope{Writes: []int{0}, Reads: []int{0}, Broken: Broken{Engine: shard.FaultNoCommit}}},
		{"a backup does not persist", Scope{Writes: []int{0}, Reads: []int{1}, Broken: Broken{Engine: shard.FaultNoCommitBackup}}},
		{"a fenced member serves", Scope{Writes: []int{0}, Reads: []int{1}, Crash: true, Broken: Broken{Engine: shard.FaultServeFenced}}},
		{"clean when the data has come", Scope{Writes: []int{0}, Reads: []int{1}, Broken: Broken{Store: store.FaultInstallUnstable}}},
		{"an older version for a missing one", Scope{Writes: []int{0}, Reads: []int{2}, Large: true, Broken: Broken{Store: store.FaultOlder}}},
	}
	if os.Getenv("WHALE_SIM") != "" {
		variants = append(variants,
			variant{"active too early", Scope{Writes: []int{0}, Crash: true, Recover: true, Most: 300_000, Broken: Broken{Engine: shard.FaultEarlyActive}}},
			variant{"old rights stand", Scope{Writes: []int{0}, Large: true, Crash: true, Recover: true, Most: 300_000, Broken: Broken{Engine: shard.FaultNoRevoke}}})
	}
	for _, v := range variants {
		v.scope.Workers = 1
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

// The explanations of a history exist exactly if it is linearizable, as another checker has it.
func TestHistory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	good := 0
	for range 20_000 {
		n := 2 + rng.IntN(4)
		var writes []bool
		var ops []*op
		g := &group{keys: [2]string{"a", "b"}}
		for i := range n {
			writes = append(writes, rng.IntN(2) == 0)
			o := &op{fate: void, subs: []sub{{get, 0, ""}}}
			if writes[i] {
				o.subs[0] = sub{set, 0, makeValue('v', i+1, 0)}
			}
			ops = append(ops, o)
		}
		g.history = ops
		h, explained, clock := newHistory(writes), true, int64(0)
		for range 3 * n {
			i, o := rng.IntN(n), (*op)(nil)
			o = ops[i]
			clock++
			switch {
			case o.call == 0:
				o.call, o.fate = clock, open
				h.called(i)
			case o.fate == open && writes[i] && rng.IntN(4) == 0:
				o.ret, o.fate = clock, unknown
				h.unknown(i)
			case o.fate == open && rng.IntN(5) == 0:
				o.ret, o.fate = clock, void
				explained = h.void(i) && explained
			case o.fate == open:
				reply := "+OK"
				if k := rng.IntN(n + 1); !writes[i] {
					if reply = "_"; k < n && writes[k] {
						reply = "$" + ops[k].subs[0].arg
					}
				}
				o.ret, o.fate, o.replies = clock, done, []string{reply}
				value, _ := h.valueOf(i, reply)
				explained = h.answered(i, value) && explained
			}
		}
		r := &run{groups: []*group{g}}
		bad, _ := r.linearizable(0)
		if explained != (bad == nil) {
			t.Fatalf("explained: %v, but linearizable: %v\n%s", explained, bad == nil, tellAll(ops))
		}
		if explained {
			good++
		}
	}
	if good < 1000 || good > 19_000 {
		t.Errorf("%d of 20,000 histories are linearizable: the test shows little", good)
	}
}

func tellAll(ops []*op) (text string) {
	for _, o := range ops {
		text += fmt.Sprintf("%d to %d, %d: %v -> %v\n", o.call, o.ret, o.fate, o.subs, o.replies)
	}
	return text
}
