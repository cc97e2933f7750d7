package mirror

import (
	"fmt"
	"testing"
)

const (
	benchSize = 1 << 20
	epochs    = 16
)

// BenchmarkEpochs is a transaction of 16 epochs of one write of 64 bytes, under each strategy, beside the plain stores, flushes
// and fences of the same.
func BenchmarkEpochs(b *testing.B) {
	line := make([]byte, 64)
	b.Run("plain", func(b *testing.B) {
		m := mapped(b, benchSize)
		b.ReportAllocs()
		for i := range b.N {
			off := uint64(i) * epochs % (benchSize / 64 / 2)
			for range epochs {
				at := HeadSize + off*64
				copy(m.Bytes()[at:at+64], line)
				m.Persist(at, 64)
				m.Fence()
				off++
			}
		}
	})
	for _, provider := range []string{"shm", "tcp"} {
		for _, s := range Strategies {
			if s == None && provider != "shm" {
				continue
			}
			b.Run(fmt.Sprintf("%s/%v", provider, s), func(b *testing.B) {
				r, _ := realRegion(b, provider, benchSize, Options{Strategy: s})
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
