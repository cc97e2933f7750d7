package mirrortest

import (
	"iter"
	"runtime"
)

// Interleave runs programs as threads of the primary, of which one at a time goes on: at every point, and wherever one waits, chance
// (the world's) decides which. It returns when all have ended, with their errors. The programs may hold no lock while they use their
// region; who has to wait for another thread calls [World.Yield] again and again.
//
// A Fence of one thread makes nothing of another's durable on the primary.
func (w *World) Interleave(programs ...func() error) []error {
	type thread struct {
		next func() (struct{}, bool)
		stop func()
		turn func()
	}
	errs := make([]error, len(programs))
	threads := make([]*thread, len(programs))
	var running []int
	for i, program := range programs {
		t := &thread{}
		t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
			t.turn = func() {
				if !yield(struct{}{}) {
					runtime.Goexit() // another one has ended the test
				}
			}
			w.turn = t.turn
			errs[i] = program()
		})
		defer t.stop()
		threads[i], running = t, append(running, i)
	}
	defer func() {
		w.turn = nil
		w.Here.As(0)
	}()
	for len(running) > 0 {
		at := w.Rng.IntN(len(running))
		i := running[at]
		w.turn, w.threads = threads[i].turn, len(running)
		w.Here.As(i)
		if _, more := threads[i].next(); !more {
			running = append(running[:at], running[at+1:]...)
		}
	}
	return errs
}

// Yield lets another thread go on.
func (w *World) Yield() {
	if w.turn != nil {
		w.turn()
	}
}
