package ptx_test

import (
	"testing"

	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/mirror/ptx"
)

// pair begins two transactions of one pool.
func pair(t *testing.T, log ptx.Log) (w *mirrortest.World, pool *ptx.Pool, one, other *ptx.Tx) {
	t.Helper()
	w = mirrortest.New(t, mirrortest.Options{Size: 128 << 10})
	pool, err := ptx.Open(w.Open(mirror.Options{Strategy: mirror.OrderedBuffering, Threads: 2}), ptx.Options{Log: log, Root: 256})
	if err != nil {
		t.Fatal(err)
	}
	return w, pool, begin(t, pool), begin(t, pool)
}

func commit(t *testing.T, tx *ptx.Tx) {
	t.Helper()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// TestNeighbours: what one transaction leaves of a word is not undone with another's part of it.
func TestNeighbours(t *testing.T) {
	for _, log := range logs {
		t.Run(log.String(), func(t *testing.T) {
			_, pool, one, other := pair(t, log)
			one.Write(pool.Root()+1, []byte{1})
			other.Write(pool.Root()+2, []byte{2})
			commit(t, other)
			if err := one.Abort(); err != nil {
				t.Fatal(err)
			}
			if got := pool.Region().Load64(pool.Root()); got != 2<<16 {
				t.Errorf("the word is %#x, want %#x", got, 2<<16)
			}
		})
	}
}

// TestBlockOfANewChunk: a block that has committed does not depend on a transaction that has not.
func TestBlockOfANewChunk(t *testing.T) {
	for _, log := range logs {
		t.Run(log.String(), func(t *testing.T) {
			w, _, one, other := pair(t, log)
			if _, err := one.Alloc(64); err != nil { // makes a chunk
				t.Fatal(err)
			}
			at, err := other.Alloc(64)
			if err != nil {
				t.Fatal(err)
			}
			other.Write(at, []byte("kept"))
			commit(t, other)
			count := 0
			left := reopen(t, w.There[0].CrashDurable(), ptx.Options{})
			for off := range left.Blocks() {
				if count++; off != at || string(left.Region().Bytes()[at:at+4]) != "kept" {
					t.Errorf("the block at %d is allocated", off)
				}
			}
			if count != 1 {
				t.Errorf("%d blocks are allocated, want 1", count)
			}
		})
	}
}

// TestFreedBlockWaits: a block is nobody else's before the transaction that frees it has committed.
func TestFreedBlockWaits(t *testing.T) {
	_, pool, one, other := pair(t, ptx.Undo)
	at, err := one.Alloc(1024)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, one)
	one = begin(t, pool)
	if err := one.Free(at); err != nil {
		t.Fatal(err)
	}
	for range 40 { // all of the chunk, and some more
		if got, err := other.Alloc(1024); err != nil || got == at {
			t.Fatalf("Alloc gave %d, %v; the block at %d is still another's", got, err, at)
		}
	}
}
