package mirror_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"whale/mirror"
	"whale/pmem"
)

const (
	benchSize = 1 << 20
	epochs    = 16
)

// BenchmarkEpochs is a transaction of 16 epochs of one write of 64 bytes, under each strategy, beside the plain stores, flushes
// and fences of the same. The primary's memory is flushed as persistent memory is.
func BenchmarkEpochs(b *testing.B) {
	line := make([]byte, 64)
	b.Run("plain", func(b *testing.B) {
		m := mapped(b, filepath.Join(b.TempDir(), "m"), benchSize, pmem.ADR)
		b.ReportAllocs()
		for i := range b.N {
			off := uint64(i) * epochs % (benchSize / 64 / 2)
			for range epochs {
				at := mirror.HeadSize + off*64
				copy(m.Bytes()[at:at+64], line)
				m.Persist(at, 64)
				m.Fence()
				off++
			}
		}
	})
	for _, c := range []struct {
		name, provider string
		there          pmem.Domain // of the mirror's memory
	}{{"shm", "shm", pmem.FileShared}, {"shm-flushed", "shm", pmem.ADR}, {"tcp", "tcp", pmem.FileShared}} {
		for _, s := range mirror.Strategies {
			if s == mirror.None && c.name != "shm" {
				continue
			}
			b.Run(fmt.Sprintf("%s/%v", c.name, s), func(b *testing.B) {
				r, _ := realRegion(b, c.provider, benchSize, c.there, mirror.Options{Strategy: s})
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					off := uint64(i) * epochs % (benchSize / 64 / 2)
					tx, err := r.Begin()
					if err != nil {
						b.Fatal(err)
					}
					for range epochs {
						tx.Write(off*64, line)
						tx.Barrier()
						off++
					}
					if err := tx.Commit(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
