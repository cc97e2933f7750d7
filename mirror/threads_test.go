package mirror_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/pmem"
)

// interleaved runs threads that each do transaction after transaction, and go on one for another at any point: inside their
// writes, their barriers and their commits. Each has words of its own, in lines that all use.
func interleaved(t *testing.T, seed uint64, s mirror.Strategy, v variant) (losses int, wrong error) {
	rng := rand.New(rand.NewPCG(seed, 11))
	const most = 4
	count := 2 + rng.IntN(most-1)
	var w *mirrortest.World
	o := mirrortest.Options{Net: simfab.Options{Relaxed: rng.IntN(4) > 0, Late: rng.IntN(2) == 0}, Seed: seed, Size: 1024, SpoilHere: v.spoilHere}
	armed := false // what is broken is so once the mirror has been filled
	if v.edit != nil {
		o.Spoil = mirrortest.Edit(func(op fabric.Op) []fabric.Op {
			if armed {
				return v.edit(op)
			}
			return []fabric.Op{op}
		})
	}
	w = mirrortest.New(t, o)
	r := w.Open(mirror.Options{Strategy: s, Threads: count, Batch: 1 + rng.IntN(8)})
	armed = true
	threads := make([]*mirrortest.History, count)
	for i := range threads {
		threads[i] = mirrortest.NewHistory(uint64(i + 1))
	}
	often := 1 + rng.IntN(8)
	judge := func(side string, m *pmem.Simulated) {
		losses++
		for i, h := range threads {
			if err := h.Check(func(off uint64) uint64 { return m.Load64(mirror.HeadSize + off) }); err != nil && wrong == nil {
				wrong = fmt.Errorf("seed %d, thread %d of %d, %s: %w", seed, i, count, side, err)
			}
		}
	}
	w.Point = func() {
		if wrong != nil || rng.IntN(often) > 0 {
			return
		}
		judge("here", w.Here.Crash(w.Rng))
		if s != mirror.None {
			judge("there", w.There[0].Crash(w.Rng))
		}
	}
	programs := make([]func() error, count)
	for i, h := range threads {
		place := func() uint64 { return uint64(64*rng.IntN(3) + 16*i + 8*rng.IntN(2)) }
		programs[i] = func() error {
			for range 3 {
				tx, err := r.Begin()
				if err != nil {
					return err
				}
				h.Begin(tx)
				for range 1 + rng.IntN(8) {
					switch off := place(); rng.IntN(3) {
					case 0:
						h.Barrier()
					case 1:
						h.Write(off, 1, true)
					case 2:
						h.Write(off, 1+rng.IntN(2-int(off%16/8)), false)
					}
				}
				if err := h.Commit(); err != nil {
					return err
				}
				w.Point()
			}
			return nil
		}
	}
	return losses, errors.Join(append(w.Interleave(programs...), wrong)...)
}

// TestInterleavedThreads: power is lost at thousands of random points of threads that run beside each other; on no side is ever left
// anything of a thread but what its own epochs allow and its own Commits have promised.
func TestInterleavedThreads(t *testing.T) {
	for _, s := range mirror.Strategies {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			losses := 0
			for seed := range uint64(60) {
				n, wrong := interleaved(t, seed, s, variant{})
				if losses += n; wrong != nil {
					t.Fatal(wrong)
				}
			}
			if losses < 1000 {
				t.Errorf("only %d losses of power", losses)
			}
			t.Logf("%d losses of power", losses)
		})
	}
}

// anyones is a memory on which one thread's fence is another's, too: it fences every other time.
type anyones struct {
	pmem.Memory
	count *int
}

func (m anyones) Fence() {
	if *m.count++; *m.count%2 == 0 {
		m.Memory.Fence()
	}
}

// TestInterleavedThreadsFinds: what TestInterleavedThreads looks for can be wrong.
func TestInterleavedThreadsFinds(t *testing.T) {
	all := []variant{{name: "none, a fence for two threads", strategy: mirror.None,
		spoilHere: func(m pmem.Memory) pmem.Memory { return anyones{m, new(int)} }}}
	for _, v := range variants {
		if v.spoil == nil && v.spoilHere == nil {
			all = append(all, v)
		}
	}
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			losses := 0
			for seed := range uint64(300) {
				n, wrong := interleaved(t, seed, v.strategy, v)
				if losses += n; wrong != nil {
					t.Logf("found after %d losses of power: %v", losses, wrong)
					return
				}
			}
			t.Errorf("not found by %d losses of power", losses)
		})
	}
}

// resynced runs two threads that write, while a third one has a lost mirror come back, again and again. What a mirror's label says must be
// true at every moment.
func resynced(t *testing.T, seed uint64, s mirror.Strategy) (during int, wrong error) {
	rng := rand.New(rand.NewPCG(seed, 17))
	w := mirrortest.New(t, mirrortest.Options{Net: simfab.Options{Relaxed: rng.IntN(2) > 0, Late: rng.IntN(2) == 0}, Seed: seed, Size: 64 << 10, Mirrors: 1 + rng.IntN(2)})
	r := w.Open(mirror.Options{Strategy: s, Threads: 2, OnLoss: mirror.GoOn, Batch: 1 + rng.IntN(8)})
	threads := []*mirrortest.History{mirrortest.NewHistory(1), mirrortest.NewHistory(2)}
	w.Point = func() {
		if wrong != nil || rng.IntN(60) > 0 {
			return
		}
		now, _ := mirror.Inspect(w.Here)
		for i, m := range w.There {
			left := m.Crash(w.Rng)
			if l, err := mirror.Inspect(left); err != nil || l.State != now.State {
				continue // old, unfinished, or not told of this generation
			}
			for k, h := range threads {
				if err := h.Check(func(off uint64) uint64 { return left.Load64(mirror.HeadSize + off) }); err != nil && wrong == nil {
					wrong = fmt.Errorf("seed %d, thread %d, %s: %w", seed, k, mirrortest.Name(i), err)
				}
			}
		}
	}
	ended := false
	writer := func(i int) func() error {
		h := threads[i]
		return func() error {
			for n := 0; n < 8 || !ended; n++ {
				tx, err := r.Begin()
				if err != nil {
					return err
				}
				h.Begin(tx)
				for range 1 + rng.IntN(4) {
					h.Write(uint64(rng.IntN(16)*4096+32*i), 1+rng.IntN(4), false)
					if rng.IntN(2) == 0 {
						h.Barrier()
					}
				}
				if err := h.Commit(); err != nil {
					return err
				}
				for _, m := range r.Mirrors() {
					if m.Filling {
						during++
					}
				}
			}
			return nil
		}
	}
	comeBack := func() error {
		defer func() { ended = true }()
		for range 3 {
			i := rng.IntN(len(w.There))
			w.Net.Crash(mirrortest.Name(i))
			left := w.There[i].ProcessCrash()
			if rng.IntN(2) == 0 {
				left = left.Crash(w.Rng)
			}
			for r.Mirrors()[i].Lost == nil { // until somebody has noticed
				w.Yield()
			}
			w.Serve(i, left)
			if err := r.Resync(t.Context(), rng.IntN(4) == 0); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(w.Interleave(writer(0), writer(1), comeBack)...); err != nil {
		return during, fmt.Errorf("seed %d: %w", seed, err)
	}
	put(t, r, 63<<10, seed+1)
	same(t, w, r)
	return during, wrong
}

// TestResyncBesideTransactions: transactions go on while a mirror is filled, and it has all that they wrote when it follows.
func TestResyncBesideTransactions(t *testing.T) {
	for _, s := range mirrored {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			during := 0
			for seed := range uint64(8) {
				n, wrong := resynced(t, seed, s)
				if during += n; wrong != nil || t.Failed() {
					t.Fatalf("seed %d: %v", seed, wrong)
				}
			}
			if during < 100 {
				t.Errorf("only %d transactions committed while a mirror was filled", during)
			}
			t.Logf("%d transactions committed while a mirror was filled", during)
		})
	}
}
