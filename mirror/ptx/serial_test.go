package ptx_test

import (
	"testing"

	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/mirror/ptx"
	"whale/pmem"
)

// TestOldEntriesStayDead: of a log that a crash has torn, a later entry may be left without an earlier one. The next transaction of
// the lane, whose entry goes where the earlier one was, must not take it for its own when a crash has it carried out again.
func TestOldEntriesStayDead(t *testing.T) {
	open := func(m *pmem.Simulated) (*mirrortest.World, *ptx.Pool) {
		w := mirrortest.New(t, mirrortest.Options{Size: 64 << 10})
		w.Here = m
		pool, err := ptx.Open(w.Open(mirror.Options{}), ptx.Options{Log: ptx.Redo, Lanes: 2, LogSize: 512})
		if err != nil {
			t.Fatal(err)
		}
		return w, pool
	}
	w, pool := open(pmem.Simulate(mirror.HeadSize+64<<10, pmem.ADR, 1))
	root := pool.Root()
	tx := begin(t, pool)
	tx.Store64(root, 1)
	tx.Store64(root+8, 2)
	var torn []*pmem.Simulated
	w.Point = func() {
		if len(torn) > 0 {
			return
		}
		w.Here.CrashEach(1<<10, func(left *pmem.Simulated) {
			// The first entry has lost its serial, the second has all of its words: a few memories are like that.
			b := left.Bytes()[mirror.HeadSize:]
			if n := words(b, 1, 2); n > 0 && len(torn) < 64 {
				torn = append(torn, left)
			}
		})
	}
	commit(t, tx)
	if len(torn) == 0 {
		t.Fatal("no loss of power tore the log")
	}
	for _, m := range torn {
		w, pool := open(m)
		before := pool.Region().Load64(root + 8)
		tx := begin(t, pool)
		tx.Store64(root, 3)
		w.Point = func() {
			for _, left := range []*pmem.Simulated{w.Here.CrashDurable(), w.Here.CrashAll()} {
				p := reopen(t, left, ptx.Options{})
				if got := p.Region().Load64(root + 8); got != before {
					t.Fatalf("the word of the transaction that never committed became %d", got)
				}
			}
		}
		commit(t, tx)
	}
}

// words counts the places where an entry for the value want stands whole behind one for the value lost that is not.
func words(b []byte, lost, want byte) (n int) {
	const entry = 32 // 24 and a word
	for off := 0; off+2*entry <= len(b); off += 8 {
		first, second := b[off:off+entry], b[off+entry:off+2*entry]
		if second[24] == want && second[0] != 0 && second[16] == 8 && second[20] != 0 && first[0] == 0 && first[24] == lost {
			n++
		}
	}
	return n
}
