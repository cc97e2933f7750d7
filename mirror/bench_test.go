package mirror_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"whale/fabric"
	"whale/fabric/fabrictest"
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

// BenchmarkPrimitives is one write of 64 bytes and what makes it durable, until the caller knows.
func BenchmarkPrimitives(b *testing.B) {
	for _, c := range []struct {
		name, provider string
		there          pmem.Domain
	}{{"shm", "shm", pmem.FileShared}, {"shm-flushed", "shm", pmem.ADR}} {
		for _, p := range []struct {
			name  string
			write fabric.Flags
			last  fabric.Op
		}{
			{"write", 0, fabric.Op{Kind: fabric.Fence}},
			{"remote commit", 0, fabric.Op{Kind: fabric.Flush, A: fabric.Durable, Len: 64}},
			{"write-through, remote durability fence", fabric.WriteThrough, fabric.Op{Kind: fabric.Fence, A: fabric.Durable}},
			{"non-temporal, read", fabric.NonTemporal, fabric.Op{Kind: fabric.Read, Len: 8}},
		} {
			b.Run(c.name+"/"+p.name, func(b *testing.B) {
				here, there := endpoint(b, c.provider), endpoint(b, c.provider)
				m := mapped(b, filepath.Join(b.TempDir(), "m"), benchSize, c.there)
				remote, err := there.Register(m, 0, benchSize, fabric.RemoteRead|fabric.RemoteWrite|fabric.RemoteFlush)
				if err != nil {
					b.Fatal(err)
				}
				local, err := here.Register(pmem.Heap(128), 0, 128, fabric.LocalOnly)
				if err != nil {
					b.Fatal(err)
				}
				conn, _, _, err := fabrictest.DialAccept(here, there, nil, func([]byte) ([]byte, error) { return nil, nil })
				if err != nil {
					b.Fatal(err)
				}
				ops := []fabric.Op{{Kind: fabric.Write, Flags: p.write, Local: fabric.Span{Key: local}, Len: 64}, p.last}
				ops[1].Flags, ops[1].Local = fabric.Signaled, fabric.Span{Key: local, Off: 64}
				var done [1]fabric.Completion
				for i := range b.N {
					ops[0].Remote = fabric.Addr{Key: remote, Off: uint64(i) * 64 % benchSize}
					ops[1].Remote = ops[0].Remote
					conn.Post(ops)
					for conn.Poll(done[:]) == 0 {
						runtime.Gosched()
					}
					if done[0].Err != nil {
						b.Fatal(done[0].Err)
					}
				}
			})
		}
	}
}
