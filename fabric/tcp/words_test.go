package tcp

import (
	"sync/atomic"
	"testing"

	"whale/fabric"
)

// TestWordsBesideReaders: whoever loads a word at the target, or stores one there that a Read fetches, sees whole words;
// and the race detector, which sees all of this memory, has nothing to say.
func TestWordsBesideReaders(t *testing.T) {
	const slots = 64
	w := wire(t, 64*slots, Options{})
	twice := func(v uint32) uint64 { return uint64(v)<<32 | uint64(v) }
	whole := func(v uint64) bool { return v == twice(uint32(v)) }
	var stop atomic.Bool
	ended := make(chan uint64, 1)
	own := register(t, w.b, w.to, allRights)
	go func() { // the owner of the target's memory: loads what is written, stores what is read
		bad := uint64(0)
		for i := uint32(0); !stop.Load() && bad == 0; i++ {
			w.to.Store64(64*(slots-1), twice(i))
			for off := uint64(0); off < 64*(slots-1); off += 8 {
				if v := w.to.Load64(off); !whole(v) {
					bad = v
				}
			}
		}
		ended <- bad
	}()
	done := make([]fabric.Completion, 8)
	rounds := uint32(2000)
	if testing.Short() {
		rounds = 300
	}
	for i := range rounds {
		for off := uint64(0); off < 64*(slots-1); off += 8 {
			w.from.Store64(off, twice(i))
		}
		n := 64 * (1 + uint64(i)%(slots-1))
		w.exchange(t, []fabric.Op{
			w.write(0, n, 0),
			last(fabric.Op{Kind: fabric.Read, Local: fabric.Span{Key: w.local, Off: 64 * (slots - 1)}, Remote: fabric.Addr{Key: own, Off: 64 * (slots - 1)}, Len: 8}),
		}, done)
		if v := w.from.Load64(64 * (slots - 1)); !whole(v) {
			t.Fatalf("a Read brought %#x", v)
		}
	}
	stop.Store(true)
	if bad := <-ended; bad != 0 {
		t.Fatalf("a reader at the target saw %#x", bad)
	}
}
