package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/pmem"
)

// same fails unless every mirror of the world holds durably what the region is.
func same(t *testing.T, w *mirrortest.World, r *mirror.Region) {
	t.Helper()
	for i, m := range w.There {
		if got := m.CrashDurable().Bytes(); !bytes.Equal(region(got), r.Bytes()) {
			t.Errorf("%s differs from the primary", mirrortest.Name(i))
		}
	}
}

// put commits a transaction of one word.
func put(t *testing.T, r *mirror.Region, off, v uint64) {
	t.Helper()
	tx := begin(t, r)
	tx.Store64(off, v)
	commit(t, tx)
}

func TestStopsWhenAMirrorIsLost(t *testing.T) {
	for _, s := range mirrored {
		t.Run(s.String(), func(t *testing.T) {
			w := mirrortest.New(t, mirrortest.Options{})
			r := w.Open(mirror.Options{Strategy: s, Threads: 2})
			put(t, r, 0, 1)
			tx := begin(t, r)
			tx.Store64(8, 2)
			w.Net.Crash("M1")
			err := tx.Commit()
			if !errors.Is(err, mirror.ErrLost) || !strings.Contains(err.Error(), "M1") {
				t.Fatalf("Commit without the mirror: %v", err)
			}
			if _, err := r.Begin(); !errors.Is(err, mirror.ErrLost) || !strings.Contains(err.Error(), "open it again") {
				t.Errorf("Begin in a region that has stopped: %v", err)
			}
			if ms := r.Mirrors(); ms[0].Lost == nil {
				t.Error("the mirror is not reported as lost")
			}
			left := mirrortest.Alone(t, w.Here.CrashDurable(), 1)
			if left.Load64(0) != 1 || left.Load64(8) != 2 {
				t.Error("what was written is not durable here")
			}
			r.Close()
			w.Serve(0, w.There[0].CrashDurable())
			r = w.Open(mirror.Options{Strategy: s})
			same(t, w, r)
			put(t, r, 16, 3)
			same(t, w, r)
		})
	}
}

// TestGoesOnWithoutAMirror: the others follow, the lost one is known to be old, and when it comes back it gets what it missed and no more.
func TestGoesOnWithoutAMirror(t *testing.T) {
	for _, s := range mirrored {
		t.Run(s.String(), func(t *testing.T) {
			const size = 1 << 20
			copied := uint64(0)
			w := mirrortest.New(t, mirrortest.Options{Mirrors: 2, Size: size})
			r := w.Open(mirror.Options{Strategy: s, Threads: 2, OnLoss: mirror.GoOn,
				Progress: func(_ string, done, total uint64) { copied = total }})
			put(t, r, 0, 1)
			before := r.Label().State
			tx := begin(t, r)
			tx.Store64(0x10000, 2)
			tx.Barrier()
			w.Net.Crash("M1")
			tx.Store64(0x20000, 3)
			commit(t, tx)
			put(t, r, 0x30000, 4)

			if ms := r.Mirrors(); ms[0].Lost == nil || ms[1].Lost != nil || ms[0].Dirty != 3*4096 {
				t.Errorf("the mirrors are %+v", ms)
			}
			now := r.Label().State
			if now.Generation != before.Generation+1 {
				t.Errorf("generation %d follows %d", now.Generation, before.Generation)
			}
			for i, want := range []mirror.State{before, now} {
				if l, err := mirror.Inspect(w.There[i].CrashDurable()); err != nil || l.State != want {
					t.Errorf("%s is %v, %v; want %v", mirrortest.Name(i), l.State, err, want)
				}
			}

			if err := r.Resync(context.Background(), false); err == nil || r.Mirrors()[0].Lost == nil {
				t.Errorf("a mirror that is not there came back: %v", err)
			}
			put(t, r, 0x40000, 5)
			w.Serve(0, w.There[0].Crash(w.Rng))
			if err := r.Resync(context.Background(), false); err != nil {
				t.Fatal(err)
			}
			if copied != 4*4096 {
				t.Errorf("%d bytes were copied, want %d", copied, 4*4096)
			}
			same(t, w, r)
			put(t, r, 0x50000, 6)
			same(t, w, r)
			if err := r.Resync(context.Background(), false); err != nil {
				t.Errorf("nothing to do: %v", err)
			}

			// A mirror that comes back with another past gets everything.
			w.Net.Crash("M1")
			put(t, r, 8, 7)
			w.Serve(0, pmem.Simulate(mirror.HeadSize+size, pmem.ADR, 99))
			if err := r.Resync(context.Background(), false); err != nil || copied != mirror.HeadSize+size {
				t.Errorf("%v; %d bytes were copied, want all", err, copied)
			}
			same(t, w, r)
		})
	}
}

// TestManyWritesAreNotForgotten: a transaction that has written more places than are kept one by one loses none of them.
func TestManyWritesAreNotForgotten(t *testing.T) {
	w := mirrortest.New(t, mirrortest.Options{Size: 1 << 20})
	r := w.Open(mirror.Options{Strategy: mirror.OrderedBuffering, OnLoss: mirror.GoOn})
	tx := begin(t, r)
	for i := range uint64(200) {
		tx.Store64((7919*i%250)*4096, i+1)
	}
	w.Net.Crash("M1")
	commit(t, tx)
	w.Serve(0, w.There[0].CrashDurable())
	if err := r.Resync(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	same(t, w, r)
}

// TestComesAndGoes: mirrors are lost at random, some with a loss of power, and come back; all that was committed while they were there or not
// is with them afterwards.
func TestComesAndGoes(t *testing.T) {
	for _, s := range mirrored {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(40) {
				rng := rand.New(rand.NewPCG(seed, 11))
				w := mirrortest.New(t, mirrortest.Options{Mirrors: 2, Size: 256 << 10, Seed: seed, Net: simfab.Options{Relaxed: true, Late: rng.IntN(2) == 0}})
				r := w.Open(mirror.Options{Strategy: s, Threads: 3, OnLoss: mirror.GoOn})
				open := []*mirror.Tx{}
				finish := func() {
					for _, tx := range open {
						commit(t, tx)
					}
					open = open[:0]
				}
				for step := range 120 {
					switch k := rng.IntN(20); {
					case k < 3 && len(open) < 3:
						open = append(open, begin(t, r))
					case k < 15 && len(open) > 0:
						tx := open[rng.IntN(len(open))]
						// Each thread has a part of its own, for nobody isolates them.
						tx.Write(uint64(tx.Thread()*85<<10+rng.IntN(84<<10)), bytes.Repeat([]byte{byte(step)}, 1+rng.IntN(900)))
						if rng.IntN(3) == 0 {
							tx.Barrier()
						}
					case k < 17 && len(open) > 0:
						i := rng.IntN(len(open))
						commit(t, open[i])
						open = append(open[:i], open[i+1:]...)
					case k == 17:
						i := rng.IntN(2)
						w.Net.Crash(mirrortest.Name(i))
						if w.There[i] = w.There[i].ProcessCrash(); rng.IntN(2) == 0 {
							w.There[i] = w.There[i].Crash(rng)
						}
						w.Serve(i, w.There[i])
					case k == 18:
						finish()
						if err := r.Resync(context.Background(), rng.IntN(8) == 0); err != nil {
							t.Fatal(err)
						}
					}
				}
				finish()
				put(t, r, 0, seed) // finds out who is gone
				if err := r.Resync(context.Background(), false); err != nil {
					t.Fatal(err)
				}
				if same(t, w, r); t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// TestFailover: the mirror's copy is opened and goes on; the old primary's becomes its mirror.
func TestFailover(t *testing.T) {
	w := mirrortest.New(t, mirrortest.Options{})
	r := w.Open(mirror.Options{Strategy: mirror.OrderedBuffering})
	put(t, r, 0, 1)
	tx := begin(t, r)
	tx.Store64(8, 2) // never commits
	w.Net.Crash("P")

	old := w.Here
	w.Net.Crash("M1")
	w.Here = w.There[0].CrashDurable()
	w.Serve(0, old.CrashAll())
	r = w.Open(mirror.Options{Strategy: mirror.DDIODisabled})
	if r.Load64(0) != 1 {
		t.Error("what was committed is gone")
	}
	put(t, r, 16, 3)
	same(t, w, r)

	// The old primary's process, had it lived, writes no more: its own label is older than its mirror's.
	if _, err := reopenAs(w, old.CrashDurable()); err == nil || !strings.Contains(err.Error(), "newer") && !strings.Contains(err.Error(), "independently") {
		t.Errorf("the old primary opens its region: %v", err)
	}
}

// reopenAs opens a memory as another process would, with the world's mirrors.
func reopenAs(w *mirrortest.World, m *pmem.Simulated) (*mirror.Region, error) {
	return mirror.Open(context.Background(), m, w.Net.Endpoint("other"), w.Names(), mirror.Options{Strategy: mirror.OrderedBuffering, Idle: w.Idle})
}

// TestSupersededPrimary: when the primary's process is started again, nothing of the earlier one lands any more.
func TestSupersededPrimary(t *testing.T) {
	w := mirrortest.New(t, mirrortest.Options{})
	first := w.Open(mirror.Options{Strategy: mirror.OrderedBuffering})
	put(t, first, 0, 1)
	second, err := reopenAs(w, w.Here.ProcessCrash())
	if err != nil {
		t.Fatal(err)
	}
	tx := begin(t, first)
	tx.Store64(8, 2)
	if err := tx.Commit(); !errors.Is(err, mirror.ErrLost) {
		t.Errorf("the earlier primary commits: %v", err)
	}
	put(t, second, 16, 3)
	if got := w.There[0].Load64(mirror.HeadSize + 8); got != 0 {
		t.Error("a write of the earlier primary has landed")
	}
}

// TestCleanCopiesAreNotCopied: after an orderly end nothing has to be compared or copied, after any other everything is.
func TestCleanCopiesAreNotCopied(t *testing.T) {
	copied := uint64(0)
	o := mirror.Options{Strategy: mirror.DDIODisabled, Progress: func(_ string, done, _ uint64) { copied = done }}
	w := mirrortest.New(t, mirrortest.Options{Size: 8192 - mirror.HeadSize})
	for i, c := range []struct {
		orderly bool
		want    uint64
	}{{true, 8192}, {true, 0}, {false, 0}, {true, 8192}, {true, 0}} { // how it ends, and what was copied when it began
		copied = 0
		r := w.Open(o)
		if copied != c.want {
			t.Errorf("opening %d copied %d bytes, want %d", i, copied, c.want)
		}
		put(t, r, 0, uint64(i))
		if same(t, w, r); c.orderly {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		w.Net.Crash("P")
		w.Net.Crash("M1")
		w.Here = w.Here.CrashDurable()
		w.Serve(0, w.There[0].CrashDurable())
	}
}

// TestRefusals: what does not fit is said, and changes no copy.
func TestRefusals(t *testing.T) {
	const total = mirror.HeadSize + 4096
	used := func(t *testing.T) *pmem.Simulated { // a region's memory, of generation 1
		m := pmem.Simulate(total, pmem.ADR, 1)
		put(t, mirrortest.Alone(t, m, 1), 0, 77)
		return m.CrashDurable()
	}
	again := func(t *testing.T, m *pmem.Simulated) *pmem.Simulated { // opened once more
		c := m.CrashDurable()
		put(t, mirrortest.Alone(t, c, 1), 8, 78)
		return c.CrashDurable()
	}
	filling := func(m *pmem.Simulated) *pmem.Simulated {
		m.Store64(64, m.Load64(64)&^0xff|uint64(mirror.Filling))
		m.Persist(64, 8)
		m.Fence()
		return m
	}
	for _, c := range []struct {
		name        string
		here, there func(t *testing.T) *pmem.Simulated
		net         simfab.Options
		strategy    mirror.Strategy
		want        string
		is          error
	}{
		{name: "another size", there: func(*testing.T) *pmem.Simulated { return pmem.Simulate(total+64, pmem.ADR, 1) }, want: "8192 bytes, the mirror's 8256"},
		{name: "another region", here: used, there: used, want: "serve another file"},
		{name: "a new primary and a used mirror", there: used, want: "serve another file"},
		{name: "no persistence", net: simfab.Options{NoDurable: true}, is: fabric.ErrUnsupported, want: "survives nothing"},
		{name: "DDIO on", net: simfab.Options{DDIO: true}, strategy: mirror.DDIODisabled, is: fabric.ErrUnsupported, want: "switch off DDIO"},
		{name: "an unfinished copy here", here: func(t *testing.T) *pmem.Simulated { return filling(used(t)) }, want: "unfinished copy"},
		{name: "something else here", here: func(t *testing.T) *pmem.Simulated {
			m := pmem.Simulate(total, pmem.ADR, 1)
			copy(m.Bytes(), "#!/bin/sh")
			return m
		}, want: "no mirrored region"},
		{name: "damage here", here: func(t *testing.T) *pmem.Simulated { m := used(t); m.Bytes()[20] ^= 1; return m }, want: "damaged"},
		{name: "another version here", here: func(t *testing.T) *pmem.Simulated { m := used(t); m.Bytes()[8] = 9; return m }, want: "version 9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := mirrortest.New(t, mirrortest.Options{Net: c.net})
			if c.here != nil {
				w.Here = c.here(t)
			}
			if c.there != nil {
				w.Net.Crash("M1")
				w.Serve(0, c.there(t))
			}
			before, beforeThere := bytes.Clone(w.Here.Bytes()), bytes.Clone(w.There[0].Bytes())
			set := c.strategy
			if set == mirror.None {
				set = mirror.OrderedBuffering
			}
			_, err := w.TryOpen(mirror.Options{Strategy: set, OnLoss: mirror.GoOn})
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("Open: %v, want %q", err, c.want)
			}
			if !bytes.Equal(region(before), region(w.Here.Bytes())) || !bytes.Equal(beforeThere, w.There[0].Bytes()) {
				t.Error("a copy was changed")
			}
		})
	}
	t.Run("a newer mirror", func(t *testing.T) {
		w := mirrortest.New(t, mirrortest.Options{})
		m := used(t)
		w.Here = m
		w.Net.Crash("M1")
		w.Serve(0, again(t, again(t, m)))
		if _, err := w.TryOpen(mirror.Options{Strategy: mirror.RemoteCommit}); err == nil || !strings.Contains(err.Error(), "newer") {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("an unfinished copy of something newer", func(t *testing.T) {
		w := mirrortest.New(t, mirrortest.Options{})
		m := used(t)
		w.Here = m
		w.Net.Crash("M1")
		w.Serve(0, filling(again(t, again(t, m))))
		if _, err := w.TryOpen(mirror.Options{Strategy: mirror.RemoteCommit}); err == nil || !strings.Contains(err.Error(), "serve an empty file") ||
			strings.Contains(err.Error(), "as the primary's") {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("two pasts", func(t *testing.T) {
		w := mirrortest.New(t, mirrortest.Options{})
		m := used(t)
		w.Here = again(t, m)
		w.Net.Crash("M1")
		w.Serve(0, again(t, m))
		if _, err := w.TryOpen(mirror.Options{Strategy: mirror.RemoteCommit}); err == nil || !strings.Contains(err.Error(), "independently") {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("an older mirror is filled", func(t *testing.T) {
		w := mirrortest.New(t, mirrortest.Options{})
		m := used(t)
		w.Here = again(t, m)
		w.Net.Crash("M1")
		w.Serve(0, m)
		same(t, w, w.Open(mirror.Options{Strategy: mirror.RemoteCommit}))
	})
	t.Run("an unfinished mirror is filled", func(t *testing.T) {
		w := mirrortest.New(t, mirrortest.Options{})
		w.Here = used(t)
		w.Net.Crash("M1")
		w.Serve(0, filling(w.Here.Clone()))
		same(t, w, w.Open(mirror.Options{Strategy: mirror.RemoteCommit}))
	})
	t.Run("a mirror of another version", func(t *testing.T) {
		w := mirrortest.New(t, mirrortest.Options{})
		x := w.Serve(0, w.There[0])
		w.Net.Endpoint("M1").Listen(func(hello []byte) ([]byte, error) {
			hello[8] = 200
			return x.Answer(hello)
		})
		if _, err := w.TryOpen(mirror.Options{Strategy: mirror.RemoteCommit}); err == nil || !strings.Contains(err.Error(), "version 200") {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		w := mirrortest.New(t, mirrortest.Options{})
		w.Net.Crash("M1")
		if _, err := w.TryOpen(mirror.Options{Strategy: mirror.RemoteCommit}); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
			t.Errorf("Open: %v", err)
		}
		r, err := w.TryOpen(mirror.Options{Strategy: mirror.RemoteCommit, OnLoss: mirror.GoOn})
		if err != nil {
			t.Fatal(err)
		}
		put(t, r, 0, 5)
		w.Serve(0, w.There[0])
		if err := r.Resync(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		same(t, w, r)
	})
	t.Run("options", func(t *testing.T) {
		for _, o := range []mirror.Options{{Strategy: 9}, {Strategy: mirror.None, Threads: -1}, {OnLoss: 7}, {Batch: 1000}, {Stage: 5}, {Timeout: -1}} {
			if _, err := mirrortest.New(t, mirrortest.Options{}).TryOpen(o); err == nil {
				t.Errorf("%+v was taken", o)
			}
		}
	})
}
