package mirror_test

import (
	"math/rand/v2"
	"testing"

	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
)

// TestNewestCopyHasEverything: mirrors are lost one after the other, at random moments, and the region goes on. Should the primary be gone
// for good at any moment, the copies of the newest generation hold what was committed, and those that were left behind
// are not among them.
func TestNewestCopyHasEverything(t *testing.T) {
	const mirrors = 3
	for _, s := range mirrored {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			losses, compared := 0, 0
			for seed := range uint64(60) {
				rng := rand.New(rand.NewPCG(seed, 13))
				w := mirrortest.New(t, mirrortest.Options{Mirrors: mirrors, Size: 1024, Seed: seed, Net: simfab.Options{Relaxed: true, Late: rng.IntN(2) == 0}})
				r := w.Open(mirror.Options{Strategy: s, OnLoss: mirror.GoOn, Batch: 1 + rng.IntN(4)})
				h := mirrortest.NewHistory(1)
				lost := [mirrors]bool{} // when the last Commit returned
				gone := [mirrors]bool{}
				w.Point = func() {
					if t.Failed() || rng.IntN(4) > 0 {
						return
					}
					losses++
					newest, of := uint32(0), [mirrors]mirror.State{}
					for i, m := range w.There {
						l, err := mirror.Inspect(m)
						if err != nil {
							t.Fatal(err)
						}
						left := m.Crash(w.Rng)
						if l, err = mirror.Inspect(left); err != nil {
							t.Fatal(err)
						}
						if of[i] = l.State; !gone[i] {
							newest = max(newest, l.State.Generation)
						}
						if lost[i] || gone[i] {
							continue
						}
						if err := h.Check(func(off uint64) uint64 { return left.Load64(mirror.HeadSize + off) }); err != nil {
							t.Errorf("seed %d: %s, which follows: %v", seed, mirrortest.Name(i), err)
						}
					}
					for i := range of {
						if lost[i] && newest > 0 {
							if compared++; of[i].Generation >= newest {
								t.Errorf("seed %d: %s was left behind, and is of generation %d, the newest of the others of %d", seed, mirrortest.Name(i), of[i].Generation, newest)
							}
						}
					}
				}
				for range 8 {
					h.Begin(begin(t, r))
					crash := rng.IntN(20)
					for step := range 1 + rng.IntN(12) {
						if i := rng.IntN(mirrors); step == crash && !gone[i] && gone != [mirrors]bool{i != 0, i != 1, i != 2} {
							gone[i] = true
							w.Net.Crash(mirrortest.Name(i))
						}
						if rng.IntN(3) == 0 {
							h.Barrier()
						} else {
							h.Write(uint64(8*rng.IntN(32)), 1, rng.IntN(2) == 0)
						}
					}
					if err := h.Commit(); err != nil {
						t.Fatal(err)
					}
					for i, m := range r.Mirrors() {
						lost[i] = m.Lost != nil
					}
					w.Point()
				}
			}
			if t.Logf("%d losses of power, %d old copies", losses, compared); compared < 500 {
				t.Error("too few")
			}
		})
	}
}
