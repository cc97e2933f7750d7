package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/pmem"
)

// TestLossWhileFilling: a mirror that is lost while it is filled says so to whoever would open it.
func TestLossWhileFilling(t *testing.T) {
	for stop := range 40 {
		w := mirrortest.New(t, mirrortest.Options{Size: 1 << 20})
		put(t, mirrortest.Alone(t, w.Here, 1), 0, 1)
		steps := 0
		w.Next = func() error {
			if steps++; steps == stop {
				return mirrortest.ErrStuck
			}
			if !w.Net.Step(w.Rng) {
				return mirrortest.ErrStuck
			}
			return nil
		}
		_, err := w.TryOpen(mirror.Options{Strategy: mirror.RemoteCommit})
		left := w.There[0].Crash(w.Rng)
		l, lerr := mirror.Inspect(left)
		switch {
		case lerr != nil:
			t.Fatalf("stopped after %d steps: %v", stop, lerr)
		case l.State.Condition == mirror.Opened && !bytes.Equal(region(left.Bytes()), region(w.Here.Bytes())):
			t.Fatalf("stopped after %d steps: the copy is %v, and differs", stop, l.State)
		case err == nil && l.State.Condition != mirror.Opened:
			t.Fatalf("filled, and yet %v", l.State)
		}
		if l.State.Condition == mirror.Filling {
			if _, err := mirror.Open(context.Background(), left, nil, nil, mirror.Options{}); err == nil || !strings.Contains(err.Error(), "unfinished") {
				t.Fatalf("an unfinished copy was opened: %v", err)
			}
		}
	}
}

// TestGoesOnWhileFilling: under GoOn a mirror that is lost at any point of Open is lost from the start, is known to be old, and comes back.
func TestGoesOnWhileFilling(t *testing.T) {
	for _, strategy := range []mirror.Strategy{mirror.RemoteCommit, mirror.OrderedBuffering} {
		lost := 0
		for stop := range 60 {
			w := mirrortest.New(t, mirrortest.Options{Size: 64 << 10, Mirrors: 2, Seed: uint64(stop), Net: simfab.Options{Relaxed: true}})
			put(t, mirrortest.Alone(t, w.Here, 1), 0, 1)
			steps := 0
			w.Next = func() error {
				if steps++; steps == stop {
					w.Net.Crash("M2")
				}
				if !w.Net.Step(w.Rng) {
					return mirrortest.ErrStuck
				}
				return nil
			}
			r, err := w.TryOpen(mirror.Options{Strategy: strategy, OnLoss: mirror.GoOn})
			if err != nil {
				t.Fatalf("lost after %d steps: %v", stop, err)
			}
			put(t, r, 8, 2)
			now := r.Label().State
			l, err := mirror.Inspect(w.There[1].ProcessCrash())
			if err != nil {
				t.Fatal(err)
			}
			if first, err := mirror.Inspect(w.There[0].CrashDurable()); err != nil || first.State != now {
				t.Fatalf("lost after %d steps: the other mirror is %v, want %v", stop, first.State, now)
			}
			if r.Mirrors()[1].Lost == nil {
				if l.State != now {
					t.Fatalf("it follows, and is %v, want %v", l.State, now)
				}
				continue
			}
			lost++
			if l.State.Condition == mirror.Opened && l.State.Generation >= now.Generation {
				t.Fatalf("lost after %d steps: its copy is %v, and the primary's %v", stop, l.State, now)
			}
			w.Next = nil
			w.Net.Crash("M2")
			w.Serve(1, w.There[1].CrashDurable())
			if err := r.Resync(context.Background(), false); err != nil {
				t.Fatal(err)
			}
			same(t, w, r)
		}
		t.Logf("%v: lost %d times", strategy, lost)
		if lost < 20 {
			t.Errorf("the mirror was lost %d times only", lost)
		}
	}
}

// TestLossAfterItFollows: a mirror has heard that it follows, and is lost before it can say so. Its copy must be known to be old, when
// it is filled by Open and when it comes back.
func TestLossAfterItFollows(t *testing.T) {
	for seed := range uint64(10) {
		w := mirrortest.New(t, mirrortest.Options{Mirrors: 2, Seed: seed})
		r, heard := (*mirror.Region)(nil), mirror.State{}
		w.Next = func() error {
			if s := stateOf(t, w.There[1].ProcessCrash()); s.Generation > heard.Generation && s.Condition == mirror.Opened {
				heard = s
				w.Net.Crash("M2")
			}
			if !w.Net.Step(w.Rng) {
				return mirrortest.ErrStuck
			}
			return nil
		}
		check := func() {
			t.Helper()
			now, other := r.Label().State, stateOf(t, w.There[0].CrashDurable())
			if heard.Condition != mirror.Opened || now.Generation <= heard.Generation || other != now {
				t.Errorf("seed %d: the lost mirror is %v, the primary %v, and the other mirror %v", seed, heard, now, other)
			}
		}
		r = w.Open(mirror.Options{Strategy: mirror.OrderedBuffering, OnLoss: mirror.GoOn})
		check()
		w.Serve(1, w.There[1].ProcessCrash())
		put(t, r, 0, 1)
		if err := r.Resync(context.Background(), false); !errors.Is(err, mirror.ErrLost) {
			t.Fatalf("Resync: %v", err)
		}
		check()
		w.Next = nil
		w.Serve(1, w.There[1].ProcessCrash())
		if err := r.Resync(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		same(t, w, r)
	}
}

// stateOf is the state of a mirror's copy.
func stateOf(t *testing.T, m *pmem.Simulated) mirror.State {
	t.Helper()
	l, err := mirror.Inspect(m)
	if err != nil {
		t.Fatal(err)
	}
	return l.State
}
