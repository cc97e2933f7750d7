package pmem

import (
	"sync/atomic"
	"unsafe"
)

// lineSize is what a flush moves: a cache line, in bytes.
const lineSize = 64

// region is what every implementation shares: the bytes, and the words among them.
//
// Invariant: cap(mem) == len(mem), so that slicing mem checks an offset against the length; and mem starts at a
// multiple of 64. Ranges are sliced as mem[off:off+n]: where off+n wraps around it is below off, and the slicing panics.
type region struct {
	mem    []byte
	domain Domain
}

// Bytes implements [Memory].
func (r *region) Bytes() []byte { return r.mem }

// Domain implements [Memory].
func (r *region) Domain() Domain { return r.domain }

// Load64 implements [Memory].
func (r *region) Load64(off uint64) uint64 { return atomic.LoadUint64(r.word(off)) }

// Store64 implements [Memory].
func (r *region) Store64(off, v uint64) { atomic.StoreUint64(r.word(off), v) }

// word is the aligned word at off. An unaligned one would not be atomic, so it is refused on every machine.
func (r *region) word(off uint64) *uint64 {
	if off%8 != 0 {
		panicUnaligned()
	}
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(r.mem[off : off+8])))
}

//go:noinline
func panicUnaligned() { panic("pmem: the offset of a word is not a multiple of 8") }

// alignedBytes is size zero bytes on the Go heap, from a multiple of 64 on. The line of the last byte is whole: its
// rest is allocated too.
func alignedBytes(size uint64) []byte {
	b := make([]byte, size+2*lineSize)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % lineSize
	return b[skip:][:size:size]
}
