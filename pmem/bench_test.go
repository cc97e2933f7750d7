package pmem

import (
	"fmt"
	"testing"
)

func BenchmarkGuard(b *testing.B) {
	b.ReportAllocs()
	m := Heap(64)
	for b.Loop() {
		if err := Guard(func() { m.Store64(0, 1) }); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkFiles runs a benchmark on files in every domain that costs something else.
func benchmarkFiles(b *testing.B, run func(b *testing.B, m Memory)) {
	for _, d := range []Domain{FileShared, ADR, EADR} {
		if _, err := flusherFor(d); err != nil {
			continue
		}
		f := mapTemp(b, 1<<20, Options{Domain: d})
		if err := f.Prefault(0, 1<<20); err != nil {
			b.Fatal(err)
		}
		b.Run(d.String(), func(b *testing.B) { b.ReportAllocs(); run(b, f) })
	}
}

func BenchmarkStoreLinePersistFence(b *testing.B) {
	benchmarkFiles(b, func(b *testing.B, m Memory) {
		for off := uint64(0); b.Loop(); off = (off + 64) % (1 << 20) {
			m.Store64(off, off)
			m.Persist(off, 64)
			m.Fence()
		}
	})
}

func BenchmarkLoad64(b *testing.B) {
	benchmarkFiles(b, func(b *testing.B, m Memory) {
		for b.Loop() {
			m.Load64(64)
		}
	})
}

// A copy that becomes durable: through the cache and flushed, against CopyNT; aligned and not.
func BenchmarkCopy(b *testing.B) {
	if _, err := flusherFor(ADR); err != nil {
		b.Skip(err)
	}
	f := mapTemp(b, 1<<20, Options{Domain: ADR})
	for _, n := range []uint64{64, 512, 4096} {
		src := make([]byte, n)
		for _, way := range []struct {
			name string
			copy func(off uint64)
		}{
			{"flush", func(off uint64) { copy(f.Bytes()[off:], src); f.Persist(off, n) }},
			{"NT", func(off uint64) { f.CopyNT(off, src) }},
		} {
			for _, skew := range []uint64{0, 24} {
				b.Run(fmt.Sprintf("%s/%d+%d", way.name, n, skew), func(b *testing.B) {
					b.SetBytes(int64(n))
					for off := uint64(0); b.Loop(); off = (off + 4096) % (1<<20 - 4096) {
						way.copy(off + skew)
						f.Fence()
					}
				})
			}
		}
	}
}
