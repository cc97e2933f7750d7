package ptx_test

import (
	"context"
	"errors"
	"testing"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
)

// FuzzOpen: whatever a region holds, opening a pool in it ends with an error or with a pool that works, and nothing panics.
func FuzzOpen(f *testing.F) {
	for _, log := range logs {
		for _, at := range []uint16{0, 8, 12, 16, 24, 40, 64, 128, 136, 192, 256, 264, 300, 512, 1024, 2048} {
			f.Add(uint8(log), at, []byte{0xff, 1, 2})
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, at uint16, b []byte) {
		m := pmem.Simulate(mirror.HeadSize+fuzzSize, pmem.ADR, 1)
		pool := reopen(t, m, ptx.Options{Log: logs[int(kind)%len(logs)], Lanes: 2, LogSize: 512})
		tx := begin(t, pool)
		off, err := tx.Alloc(40)
		if err != nil {
			t.Fatal(err)
		}
		tx.Store64(pool.Root(), off)
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		copy(m.Bytes()[mirror.HeadSize+int(at):], b)
		r, err := mirror.Open(context.Background(), m, nil, nil, mirror.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if pool, err = ptx.Open(r, ptx.Options{}); err != nil {
			return
		}
		for range pool.Blocks() {
		}
		tx = begin(t, pool)
		if off, err = tx.Alloc(40); err == nil {
			tx.Write(off, make([]byte, 40))
			err = tx.Free(off)
		}
		if err != nil && !errors.Is(err, ptx.ErrNoSpace) {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	})
}

const fuzzSize = 64 << 10
