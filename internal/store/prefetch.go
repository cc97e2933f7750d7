package store

import (
	"sync/atomic"
	"unsafe"
)

// What a transaction waits for is memory: a line of the index, then the record that it names, each far from everything
// that was touched before. The lookups of a batch do not depend on each other, so their lines can be on the way together.

// Prefetch asks for the memory that looking up the keys will touch, without waiting for it. A hint: it changes nothing.
// The loop.
func (s *Store) Prefetch(keys [][]byte) {
	s.hashes = s.hashes[:0]
	for _, k := range keys {
		h := s.hashKey(k)
		s.x.prefetch(h)
		s.hashes = append(s.hashes, h)
	}
	for _, h := range s.hashes {
		s.prefetchRecord(h)
	}
}

// installAhead is how many records Install looks ahead: about as many lines as a core fetches at once.
const installAhead = 8

// prefetchPending asks for the memory that installing the pending records from first to last will touch.
func (s *Store) prefetchPending(first, last uint64) {
	for seq := first; seq <= last; seq++ {
		if r, ok := s.pending.get(seq); ok && r.bucket != 0 {
			s.x.prefetch(r.bucket)
			s.prefetchAt(r.Off)
		}
	}
	for seq := first; seq <= last; seq++ {
		if r, ok := s.pending.get(seq); ok && r.bucket != 0 {
			s.prefetchRecord(r.bucket)
		}
	}
}

// prefetch asks for the home line of a hash.
func (x *index) prefetch(hash uint64) {
	p := x.probe(hash)
	prefetch(unsafe.Pointer(&p.b[p.home]))
}

// prefetchRecord asks for the header and the key of the first record that the index names for a hash.
func (s *Store) prefetchRecord(hash uint64) {
	p := s.x.probe(hash)
	for i := p.home; i < p.home+lineWords; i++ {
		if w := atomic.LoadUint64(&p.b[i]); w>>offsetBits == p.tag && w > marker {
			s.prefetchAt(w & offsetMask << 3)
			return
		}
	}
}

// prefetchAt asks for the beginning of the record at an arena offset.
func (s *Store) prefetchAt(offset uint64) {
	b := s.m.Bytes()
	if at := s.g.Arena() + offset; at+2*64 <= uint64(len(b)) {
		prefetch(unsafe.Pointer(&b[at]))
		prefetch(unsafe.Pointer(&b[at+64]))
	}
}
