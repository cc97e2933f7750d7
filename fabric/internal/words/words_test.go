package words_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"unsafe"

	"whale/fabric/internal/words"
	"whale/pmem"
)

func TestCopy(t *testing.T) {
	src, dst, want := make([]byte, 700), make([]byte, 700), make([]byte, 700)
	for i := range src {
		src[i] = byte(i*7 + 1)
	}
	for n := range 400 {
		for _, from := range []int{0, 1, 8, 13} {
			for to := range 9 {
				clear(dst)
				clear(want)
				copy(want[8+to:], src[from:from+n])
				words.Copy(unsafe.Pointer(&dst[8+to]), unsafe.Pointer(&src[from]), uint64(n))
				if !bytes.Equal(dst, want) {
					t.Fatalf("%d bytes from %d to %d went wrong", n, from, 8+to)
				}
			}
		}
	}
}

// TestWordsAreNotTorn: a reader of an aligned word sees the old or the new one, whatever the length and alignment of
// the Write around it.
func TestWordsAreNotTorn(t *testing.T) {
	src, dst := pmem.Heap(8192), pmem.Heap(8192)
	p, q := unsafe.Pointer(&dst.Bytes()[0]), unsafe.Pointer(&src.Bytes()[0])
	var stop atomic.Bool
	torn := make(chan uint64, 1)
	const at = 2048
	go func() {
		for !stop.Load() {
			if v := dst.Load64(at); v != uint64(uint32(v))<<32|uint64(uint32(v)) {
				torn <- v
				return
			}
		}
		close(torn)
	}()
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range uint32(100_000) {
		from := uint64(rng.IntN(64))
		n := 64 - from + 8 + uint64(rng.IntN(1<<rng.IntN(12)))
		start := at - 64 + from
		s := uint64(rng.IntN(16)) // any alignment of the source
		binary.LittleEndian.PutUint64(src.Bytes()[s+at-start:], uint64(i)<<32|uint64(i))
		words.Copy(unsafe.Add(p, start), unsafe.Add(q, s), n)
	}
	stop.Store(true)
	if v, bad := <-torn; bad {
		t.Fatalf("a reader saw %#x", v)
	}
}
