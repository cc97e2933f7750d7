package mirror

import (
	"math/bits"
	"sync/atomic"
)

// pageSize is the unit in which it is known what a lost mirror misses, in bytes.
const pageSize = 4096

// dirty is what of the memory a mirror misses, a bit a page. Any goroutine may mark, and one at a time take.
type dirty []atomic.Uint64

func newDirty(size uint64) dirty {
	return make(dirty, (pages(size)+63)/64)
}

func pages(size uint64) uint64 { return (size + pageSize - 1) / pageSize }

// mark notes [off, off+n), which has been stored: who takes the page afterwards sees it. (To look first whether the bit is set would not
// do: the store might still be on its way when the page is taken.)
func (d dirty) mark(off, n uint64) {
	for page := off / pageSize; page <= (off+n-1)/pageSize; page++ {
		d[page/64].Or(1 << (page % 64))
	}
}

// take is the first run of pages from off on, as bytes of a memory of that size, at most so many; they are not dirty any more. n is 0 if
// there is none.
func (d dirty) take(off, size, most uint64) (from, n uint64) {
	from, n = d.next(off, size)
	n = min(n, most)
	for page := from / pageSize; page*pageSize < from+n; page++ {
		d[page/64].And(^(uint64(1) << (page % 64)))
	}
	return from, n
}

// all marks a memory of that size.
func (d dirty) all(size uint64) {
	for i := range d {
		d[i].Store(^uint64(0))
	}
	if n := pages(size) % 64; n > 0 {
		d[len(d)-1].Store(1<<n - 1)
	}
}

func (d dirty) clear() {
	for i := range d {
		d[i].Store(0)
	}
}

// next is the first run of whole pages from off on, as bytes of a memory of that size; n is 0 if there is none.
func (d dirty) next(off, size uint64) (from, n uint64) {
	page, end := (off+pageSize-1)/pageSize, pages(size)
	for page < end && d[page/64].Load()>>(page%64)&1 == 0 {
		page++
	}
	first := page
	for page < end && d[page/64].Load()>>(page%64)&1 == 1 {
		page++
	}
	if first == page {
		return 0, 0
	}
	return first * pageSize, min(page*pageSize, size) - first*pageSize
}

// bytes is how many are dirty, of a memory of that size.
func (d dirty) bytes(size uint64) uint64 {
	n := uint64(0)
	for i := range d {
		n += uint64(bits.OnesCount64(d[i].Load()))
	}
	return min(n*pageSize, size)
}

// touched are the ranges that a transaction has written, for as long as it is open: some exactly, and the smallest range
// around all the others.
type touched struct {
	ranges [64]span
	n      int
	others span
}

type span struct{ off, end uint64 }

func (t *touched) add(off, n uint64) {
	end := off + n
	if t.n > 0 {
		if last := &t.ranges[t.n-1]; off <= last.end && last.off <= end {
			last.off, last.end = min(last.off, off), max(last.end, end)
			return
		}
	}
	if t.n < len(t.ranges) {
		t.ranges[t.n] = span{off, end}
		t.n++
		return
	}
	if t.others.end == 0 {
		t.others = span{off, end}
	}
	t.others = span{min(t.others.off, off), max(t.others.end, end)}
}

func (t *touched) reset() { t.n, t.others = 0, span{} }

// into marks all of them.
func (t *touched) into(d dirty) {
	for _, s := range t.ranges[:t.n] {
		d.mark(s.off, s.end-s.off)
	}
	if t.others.end > 0 {
		d.mark(t.others.off, t.others.end-t.others.off)
	}
}
