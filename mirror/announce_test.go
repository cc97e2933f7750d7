package mirror_test

import (
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
)

// TestGenerationsArriveInTheirOrder: while one transaction tells the last mirror that M1 is lost, another one loses M2 and tells that, on
// a connection of its own. Once that one has committed, the last mirror never goes back to a generation that M2 may have.
func TestGenerationsArriveInTheirOrder(t *testing.T) {
	told := 0
	for seed := range uint64(200) {
		var newer func(s mirror.State) bool
		telling, second := false, false
		spoil := mirrortest.Edit(func(op fabric.Op) []fabric.Op {
			if s := (mirror.State{Generation: uint32(op.A >> 40)}); op.Kind == fabric.Write8 && op.Remote.Off == 64 && newer != nil && newer(s) {
				telling = true
			}
			return []fabric.Op{op}
		})
		w := mirrortest.New(t, mirrortest.Options{Mirrors: 3, Size: 1024, Seed: seed, Net: simfab.Options{Relaxed: true}, Spoil: spoil})
		r := w.Open(mirror.Options{Strategy: mirror.OrderedBuffering, Threads: 2, OnLoss: mirror.GoOn})
		start := r.Label().State.Generation
		newer = func(s mirror.State) bool { return s.Generation > start }
		one, two := begin(t, r), begin(t, r)
		one.Store64(0, 1)
		two.Store64(8, 2)
		committed := uint32(0)
		w.Next = func() error {
			if telling && !second {
				second = true
				w.Net.Crash("M2")
				commit(t, two)
				committed = r.Label().State.Generation
			}
			if !w.Net.Step(w.Rng) {
				return mirrortest.ErrStuck
			}
			if l, err := mirror.Inspect(w.There[2]); err != nil || l.State.Generation < committed {
				t.Errorf("seed %d: the last mirror went back to %v, %v; a transaction has committed in generation %d", seed, l.State, err, committed)
			}
			return nil
		}
		w.Net.Crash("M1")
		commit(t, one)
		if committed == start+2 {
			told++
		}
		if t.Failed() {
			return
		}
	}
	if told == 0 {
		t.Error("nobody lost two mirrors one after the other")
	}
}
