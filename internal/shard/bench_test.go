package shard

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"whale/internal/command"
	"whale/internal/plog"
)

const benchKeys = 1 << 20

// BenchmarkSet is the shard's loop for a SET of 64 bytes without sockets: three members on shared memory, 1 M keys in the
// index, only P's loop is measured (the backups take in what arrived off the clock). raw is what the bytes alone cost:
// three copies of record and two of slot.
func BenchmarkSet(b *testing.B) {
	geo := plog.Geometry{RingSlots: 1 << 16, SegmentSize: 8 << 20, Segments: 192}
	// Memory that is backed by a disk would be measured with the kernel's throttling of dirty pages.
	dir, err := os.MkdirTemp("/dev/shm", "whale-bench")
	if err != nil {
		b.Skipf("needs a memory file system: %v", err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	r := newShmRig(b, 3, geo, dir)
	p := r.members[0]
	client := &command.Client{}
	value := make([]byte, 64)
	var reqs []*request
	for range 64 {
		reqs = append(reqs, newRequest(client, "set", "key:00000000", string(value)))
	}
	settle := func() {
		for _, m := range r.members[1:] {
			for m.e.Step(r.now) {
			}
		}
		for p.e.Step(r.now) {
		}
	}
	rng := uint64(1)
	batch := func(n int, key func() uint32) {
		for _, q := range reqs[:n] {
			binary.LittleEndian.PutUint32(q.Args[1][4:], key())
			q.W.Buf = q.W.Buf[:0]
			q.done = false
			p.e.Submit(&q.Request)
		}
		for i := 0; !reqs[n-1].done; i++ {
			if i > 1000 {
				b.Fatalf("no answer: %+v", p.e.Status())
			}
			r.now += 100
			p.e.Step(r.now)
		}
		if string(reqs[n-1].W.Buf) != "+OK\r\n" {
			b.Fatalf("%q", reqs[n-1].W.Buf)
		}
	}
	next := uint32(0)
	for range benchKeys / 64 {
		batch(64, func() uint32 { next++; return next })
		if next%(1<<13) == 0 {
			settle()
		}
	}
	random := func() uint32 {
		rng = rng*6364136223846793005 + 1442695040888963407
		return uint32(rng>>33) % benchKeys
	}
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			settle()
			b.ReportAllocs()
			done := 0
			for b.Loop() {
				batch(n, random)
				if done += n; done >= 1<<13 {
					b.StopTimer()
					settle()
					done = 0
					if free := p.log.Free(); free < 64<<20 {
						b.Fatal("the arena is too small for so many iterations: use a lower -benchtime")
					}
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/write")
		})
	}
	b.Run("raw", func(b *testing.B) {
		src := make([]byte, 144)
		off := geo.Arena() + geo.ArenaSize()/2
		n := uint64(0)
		for b.Loop() {
			for _, m := range r.members {
				copy(m.mem.Bytes()[off+n*144:], src)
			}
			for _, m := range r.members[1:] {
				copy(m.mem.Bytes()[geo.SlotOff(n):][:64], src)
			}
			n = (n + 1) % 4096
		}
	})
}
