package verbs

import (
	"math/rand/v2"
	"slices"
	"testing"

	"whale/fabric"
)

// TestWrittenIsFlushed: every byte that was written is flushed by the next flush of its key, whatever was merged, kept or
// put out; and flushes of bytes that nobody wrote stay few as long as writes are few.
func TestWrittenIsFlushed(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var w written
		const keys, size = 20, 1 << 14
		type state struct{ dirty, through [size]bool }
		memory := map[fabric.Key]*state{}
		for k := range fabric.Key(keys) {
			memory[k] = &state{}
		}
		clean := func(s span) {
			m := memory[s.key]
			clear(m.dirty[s.from:s.to])
			clear(m.through[s.from:s.to])
		}
		used := 1 + rng.IntN(keys)
		for range 200 {
			k, n := fabric.Key(rng.IntN(used)), uint64(rng.IntN(200))
			at := uint64(rng.IntN(size - 200))
			m := memory[k]
			if rng.IntN(10) > 0 {
				through := rng.IntN(3) == 0
				for i := at; i < at+n; i++ {
					m.dirty[i] = true
					m.through[i] = m.through[i] || through
				}
				if s, flush := w.add(k, at, n, through); flush {
					if !s.through {
						t.Fatalf("seed %d: a range that was not written through is to be flushed before anybody asked", seed)
					}
					clean(s)
				}
				continue
			}
			if rng.IntN(2) == 0 {
				if w.incomplete(k) {
					clean(span{key: k, to: size})
				}
				for s, ok := w.ofRegion(k); ok; s, ok = w.ofRegion(k) {
					clean(s)
				}
				if i := slices.Index(m.dirty[:], true); i >= 0 {
					t.Fatalf("seed %d: byte %d of key %d was written and not flushed", seed, i, k)
				}
				continue
			}
			for s, ok := w.throughout(); ok; s, ok = w.throughout() {
				clean(s)
			}
			for k, m := range memory {
				if i := slices.Index(m.through[:], true); i >= 0 {
					t.Fatalf("seed %d: byte %d of key %d was written through and not flushed by a fence", seed, i, k)
				}
			}
		}
	}
	var w written
	for i := range uint64(100) { // what a node writes between two flushes: slots, bytes, its control page
		w.add(1, 4096+64*i, 64, false)
		w.add(1, 1<<30+200*i, 200, false)
		w.add(1, 0, 16, false)
	}
	if w.n != 3 || w.ranges[0] != (span{1, false, 4096, 4096 + 6400}) || w.ranges[1] != (span{1, false, 1 << 30, 1<<30 + 20000}) {
		t.Errorf("%d ranges: %v", w.n, w.ranges[:w.n])
	}
}

// TestWrittenOfAWithdrawnKey: ranges of a key that was withdrawn are not those of a later one with the same rkey, whose
// addresses are others: a request for them would be refused, and end the connection.
func TestWrittenOfAWithdrawnKey(t *testing.T) {
	var w written
	const rkey = 7
	old, next := makeKey(rkey, allRights, iovaOf(1, 0)), makeKey(rkey, allRights, iovaOf(2, 0))
	w.add(old, iovaOf(1, 0), 64, false)
	w.add(next, iovaOf(2, 0), 64, false)
	if s, ok := w.ofRegion(next); !ok || s != (span{next, false, iovaOf(2, 0), iovaOf(2, 0) + 64}) {
		t.Errorf("%+v, %v", s, ok)
	}
	if s, ok := w.ofRegion(next); ok {
		t.Errorf("a flush of the new key's region covers %+v", s)
	}
}
