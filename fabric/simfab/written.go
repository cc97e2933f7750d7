package simfab

import "whale/fabric"

// written are the cache lines of one region of the peer that a connection has written and not made durable. (A connection
// that writes to several regions in turn knows those of the last one alone; the others' are persisted when it leaves them:
// earlier than they need be, and never too late.)
type written struct {
	r     *region
	lines []uint64 // indices, in the order of writing
	has   []uint64 // a bit for each line
}

const lineSize = 64

// dirty notes that [off, off+n) of the region was written.
func (c *conn) dirty(r *region, off, n uint64) {
	w := &c.written
	if w.r != r {
		if w.r != nil && len(w.lines) > 0 {
			w.persist(0, uint64(len(w.r.bytes)))
		}
		*w = written{r: r, lines: w.lines[:0], has: make([]uint64, (len(r.bytes)/lineSize+2+63)/64)}
	}
	if n == 0 {
		return
	}
	// Lines are those of the memory, which the region may begin in the middle of.
	skew := r.base % lineSize
	for at := (skew + off) / lineSize; at <= (skew+off+n-1)/lineSize; at++ {
		if bit := uint64(1) << (at % 64); w.has[at/64]&bit == 0 {
			w.has[at/64] |= bit
			w.lines = append(w.lines, at)
		}
	}
}

// persist makes durable what this connection wrote inside [off, off+n) of the region, whole lines, and keeps the rest.
func (w *written) persist(off, n uint64) {
	skew := w.r.base % lineSize
	first, end := (skew+off)/lineSize, (skew+off+n+lineSize-1)/lineSize
	kept := w.lines[:0]
	for _, at := range w.lines {
		if at < first || at >= end {
			kept = append(kept, at)
			continue
		}
		w.has[at/64] &^= 1 << (at % 64)
		from := w.r.base - skew + at*lineSize
		to := min(from+lineSize, uint64(len(w.r.mem.Bytes())))
		w.r.mem.Persist(from, to-from)
	}
	w.lines = kept
	w.r.mem.Fence()
}

// flush carries out a durable Flush.
func (c *conn) flush(r *region, o *op) {
	if c.written.r != r {
		c.dirty(r, 0, 0)
	}
	if o.B == fabric.Region {
		c.written.persist(0, uint64(len(r.bytes)))
	} else {
		c.written.persist(o.Remote.Off, o.Len)
	}
}
