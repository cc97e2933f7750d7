package app

import (
	"runtime"
	"sync/atomic"
	"time"

	"whale/workload"
)

// Lock keeps threads apart for as long as a transaction takes, its Commit included. Threads of modelled hardware take turns, and
// a thread whose turn it is may not block; so who waits for a Lock spends time on its machine and looks again. The zero value is
// unlocked.
type Lock struct{ held atomic.Bool }

// pause is how long a thread waits before it looks again.
const pause = 100 * time.Nanosecond

// Lock waits until the lock is the thread's. Who takes several takes them in one order everywhere.
func (l *Lock) Lock(t *workload.Thread, d *Data) {
	for d.turn(); !l.held.CompareAndSwap(false, true); d.turn() {
		t.Compute(pause)
		runtime.Gosched()
	}
}

// Unlock gives the lock up.
func (l *Lock) Unlock() { l.held.Store(false) }

// turn lets threads go first that are earlier in virtual time: an access to memory is where a model does that. The word is one that
// nobody changes.
func (d *Data) turn() { d.Region.Load64(d.Pool.Root()) }
