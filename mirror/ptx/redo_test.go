package ptx_test

import (
	"errors"
	"testing"

	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/mirror/ptx"
	"whale/pmem"
)

// TestDamagedRedoLog: a transaction that has committed is carried out as a whole; if its log has lost an entry, the pool is damaged,
// and no part of the transaction is passed off as all of it.
func TestDamagedRedoLog(t *testing.T) {
	const (
		done = mirror.HeadSize + 128 + 8 // of the first lane
		two  = 2 * (24 + 8)              // bytes of the log
	)
	m := pmem.Simulate(mirror.HeadSize+size, pmem.ADR, 1)
	pool, err := ptx.Open(mirrortest.Alone(t, m, 1), ptx.Options{Log: ptx.Redo, Lanes: 1, LogSize: 512})
	if err != nil {
		t.Fatal(err)
	}
	root := pool.Root()
	tx := begin(t, pool)
	tx.Store64(root, 1)
	tx.Store64(root+8, 2)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	log := mirror.HeadSize + root - 512
	for at := -1; at < two; at++ {
		left := m.ProcessCrash()
		left.Store64(done, left.Load64(done)-1) // as if it had not ended
		left.Store64(mirror.HeadSize+root, 0)
		left.Store64(mirror.HeadSize+root+8, 0)
		if at >= 0 {
			left.Bytes()[log+uint64(at)] ^= 1
		}
		pool, err := ptx.Open(mirrortest.Alone(t, left, 1), ptx.Options{})
		switch {
		case at >= 0 && !errors.Is(err, ptx.ErrDamaged):
			t.Errorf("with byte %d of the log changed: %v, want %v", at, err, ptx.ErrDamaged)
		case at < 0 && err != nil:
			t.Error(err)
		case at < 0 && (pool.Region().Load64(root) != 1 || pool.Region().Load64(root+8) != 2):
			t.Error("a committed transaction is not carried out")
		}
	}
}
