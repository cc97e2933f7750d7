package store

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// index maps a 64-bit hash to the arena offsets of the records that have it: extendible hashing (Fagin et al., 1979)
// in memory outside the Go heap, without a Go pointer in it.
//
// The top bits of the hash select a word of the directory, which names a block of 4 KiB. A block is 64 lines of 8
// words, a line being a cache line. Six bits of the hash select the home line; an entry is in the window of four lines
// that starts there. A full window divides the block by the next hash bit: work for one block, never for all. Where
// dividing does not help (many keys of one hash) or would waste memory (hashes that were chosen to collide), an overflow
// block is linked instead.
//
// A word is 0 (empty), marker (removed), or an entry: a tag of 24 hash bits above the offset divided by 8. The tag has
// the bits that select the home line and those that divide blocks up to maxDepth, so that no record is read when a block
// is divided.
//
// One goroutine writes. Any goroutine reads, through atomic loads alone and without waiting. Blocks are never changed by
// a division but copied and replaced, and generation counts the replacements and removals. So:
//
//   - an entry that a probe returns was current at some moment after the probe began;
//   - a probe that ended without the wanted entry is to be believed only if generation is what it was before the probe.
//
// A window is filled from its start, and a line that was full once never shows an empty word again before its block is
// replaced (removal leaves a marker there). Hence a line with an empty word ends a probe.
type index struct {
	words []uint64 // blocks; block 0 is not used, so that 0 is "no block"
	dirs  []uint32 // the directory of depth d is dirs[1<<d : 2<<d]: each has a place of its own, and no reader waits

	depth      atomic.Uint32 // of the directory in use
	generation atomic.Uint64

	// The writer's own.
	next    uint32 // the first block that was never used
	free    []uint32
	entries uint64
	live    []uint64 // scratch of rewrite
}

type block [blockWords]uint64

const (
	blockWords  = 512
	lineWords   = 8
	windowWords = 4 * lineWords

	offsetBits = 40 // of an offset divided by 8: an arena of 8 TiB at most
	offsetMask = 1<<offsetBits - 1
	marker     = 1 // offset 8 lies in the header of the first segment and is never a record

	minDepth = 8  // the tag starts below the eight top bits
	maxDepth = 26 // the last bit of the tag that does not select the home line

	firstBlocks = 1 << minDepth
	spareBlocks = 64 // divided beyond what the number of entries justifies
)

// A block's word 0 is its header: number of the overflow block << 8 | depth - minDepth. Depth counts in the first block
// of a chain only.
func (b *block) link() uint32  { return uint32(atomic.LoadUint64(&b[0]) >> 8) }
func (b *block) depth() uint32 { return uint32(b[0]&0xff) + minDepth }

func header(link, depth uint32) uint64 { return uint64(link)<<8 | uint64(depth-minDepth) }

func entry(hash, offset uint64) uint64 { return hash>>32<<offsetBits | offset>>3 }

// home is the first word of an entry's window.
func home(entry uint64) uint64 { return entry >> offsetBits % (blockWords / lineWords) * lineWords }

// side is the hash bit by which a block of the given depth is divided.
func side(entry uint64, depth uint32) uint64 { return entry >> (71 - depth) & 1 }

// newIndex makes an empty index for at most maxEntries entries, counted over its life: insertions, not removals.
func newIndex(maxEntries uint64) (*index, error) {
	x := &index{}
	// Divisions stop at one block for 64 entries, a chain grows only over a window of 32 live entries.
	blocks := firstBlocks + 2*spareBlocks + maxEntries/64 + maxEntries/windowWords
	depth := uint32(min(maxDepth, bits.Len64(maxDirectory(blocks))-1))
	words, err := reserve(x, blocks*blockWords+1<<depth)
	if err != nil {
		return nil, err
	}
	x.words = words[:blocks*blockWords]
	rest := words[blocks*blockWords:]
	x.dirs = unsafe.Slice((*uint32)(unsafe.Pointer(&rest[0])), 2*len(rest))
	for i := range uint32(firstBlocks) {
		x.dirs[1<<minDepth+i] = 1 + i
	}
	x.next = 1 + firstBlocks
	x.depth.Store(minDepth)
	return x, nil
}

// maxDirectory bounds the directory by the blocks in use, lest chosen hashes let it grow without them.
func maxDirectory(blocks uint64) uint64 { return 8*blocks + 1024 }

func (x *index) block(n uint32) *block { return (*block)(x.words[uint64(n)*blockWords:]) }

func (x *index) bucket(hash uint64) uint32 {
	d := x.depth.Load()
	return atomic.LoadUint32(&x.dirs[1<<d|hash>>(64-d)])
}

// probe walks the candidates of one hash: every entry of that hash, and by chance one of another.
type probe struct {
	x    *index
	b    *block
	tag  uint64
	home uint64
	n    uint64 // words of the window that were looked at
	gap  bool   // an empty word was seen in this line
}

func (x *index) probe(hash uint64) probe {
	e := entry(hash, 0)
	return probe{x: x, b: x.block(x.bucket(hash)), tag: e >> offsetBits, home: home(e)}
}

// next returns the arena offset of the next candidate, 0 when there is none.
func (p *probe) next() uint64 {
	for {
		for p.n < windowWords {
			i := (p.home + p.n) % blockWords
			p.n++
			if i > 0 {
				w := atomic.LoadUint64(&p.b[i])
				if w == 0 {
					p.gap = true
				} else if w>>offsetBits == p.tag && w != marker {
					return w & offsetMask << 3
				}
			}
			if p.n%lineWords == 0 && p.gap {
				return 0
			}
		}
		link := p.b.link()
		if link == 0 {
			return 0
		}
		p.b, p.n = p.x.block(link), 0
	}
}

// replace lets the entry that next returned last point to another record of the same hash. Writer only, and nothing was
// inserted since the probe began.
func (p *probe) replace(offset uint64) {
	atomic.StoreUint64(&p.b[p.at()], p.tag<<offsetBits|offset>>3)
}

// remove takes out the entry that next returned last, under the conditions of replace.
func (p *probe) remove() { p.x.clear(p.b, p.at()) }

// clear removes the entry at a word of a block. A line that was full may have turned entries away to lines behind it, so
// it must not show an empty word to probes that look for them.
func (x *index) clear(b *block, at uint64) {
	var w uint64 = marker
	line := at &^ (lineWords - 1)
	for i := max(line, 1); i < line+lineWords; i++ {
		if b[i] == 0 {
			w = 0
		}
	}
	atomic.StoreUint64(&b[at], w)
	x.entries--
	x.generation.Add(1)
}

// swap lets the entry (hash, old) point to another record of the same key; false: there is no such entry. Writer only.
func (x *index) swap(hash, old, offset uint64) bool {
	p, ok := x.find(hash, old)
	if ok {
		p.replace(offset)
	}
	return ok
}

// drop removes the entry (hash, offset); false: it is not there. Writer only.
func (x *index) drop(hash, offset uint64) bool {
	p, ok := x.find(hash, offset)
	if ok {
		p.remove()
	}
	return ok
}

// find is a probe that stands at the entry (hash, offset).
func (x *index) find(hash, offset uint64) (p probe, ok bool) {
	p = x.probe(hash)
	for o := p.next(); o != 0; o = p.next() {
		if o == offset {
			return p, true
		}
	}
	return p, false
}

func (p *probe) at() uint64 { return (p.home + p.n - 1) % blockWords }

// insert adds an entry. Writer only.
func (x *index) insert(hash, offset uint64) {
	e := entry(hash, offset)
	for chain := x.bucket(hash); !x.put(chain, e); chain = x.bucket(hash) {
		if x.divisible(chain) {
			x.divide(hash)
		} else {
			x.extend(chain)
		}
	}
	x.entries++
}

// put stores an entry in the first free word of its window in the chain; false: there is none.
func (x *index) put(chain uint32, e uint64) bool {
	for n := chain; n != 0; {
		b := x.block(n)
		for i := range uint64(windowWords) {
			i = (home(e) + i) % blockWords
			if b[i] <= marker && i > 0 {
				atomic.StoreUint64(&b[i], e)
				return true
			}
		}
		n = b.link()
	}
	return false
}

// divisible says whether a chain may be divided. The limits hold memory and work down when hashes were chosen to collide;
// with good hashes they are never met.
func (x *index) divisible(chain uint32) bool {
	used := uint64(x.next) - uint64(len(x.free))
	depth := x.block(chain).depth()
	if depth == maxDepth || used > firstBlocks+spareBlocks+x.entries/64 || !x.short(chain) {
		return false
	}
	return depth < x.depth.Load() || 2<<depth <= maxDirectory(used)
}

// short says whether a chain is copied as a whole: one overflow block at most.
func (x *index) short(chain uint32) bool {
	link := x.block(chain).link()
	return link == 0 || x.block(link).link() == 0
}

// divide replaces a short chain by two, and doubles the directory if it has no room for them.
func (x *index) divide(hash uint64) {
	old := x.bucket(hash)
	depth := x.block(old).depth()
	if d := x.depth.Load(); depth == d {
		narrow, wide := x.dirs[1<<d:2<<d], x.dirs[2<<d:4<<d]
		for i, n := range narrow {
			wide[2*i], wide[2*i+1] = n, n
		}
		x.depth.Store(d + 1)
	}
	x.gather(old)
	halves := [2]uint32{x.allocate(depth + 1), x.allocate(depth + 1)}
	for _, e := range x.live {
		x.add(halves[side(e, depth)], e)
	}
	prefix := hash >> (64 - depth) << 1
	x.publish(prefix, depth+1, halves[0])
	x.publish(prefix|1, depth+1, halves[1])
	x.release(old)
}

// scan visits the entries of the bucket at cursor and drops those for which keep is false. It returns the cursor of the
// bucket behind, 0 after the last. A cursor is the smallest hash of a bucket and stays one when the index grows, so that
// a scan visits every entry that was there throughout, and exactly once. Writer only.
func (x *index) scan(cursor uint64, keep func(offset uint64) bool) (next uint64) {
	chain := x.bucket(cursor)
	depth := x.block(chain).depth()
	prefix := cursor >> (64 - depth)
	if x.short(chain) {
		x.retain(chain, prefix, depth, keep)
	} else {
		for n := chain; n != 0; {
			b := x.block(n)
			for i, w := range b {
				if i > 0 && w > marker && !keep(w&offsetMask<<3) {
					x.clear(b, uint64(i))
				}
			}
			n = b.link()
		}
	}
	return (prefix + 1) << (64 - depth)
}

// retain copies what is to be kept of a short chain, so that no markers are left behind.
func (x *index) retain(chain uint32, prefix uint64, depth uint32, keep func(offset uint64) bool) {
	x.gather(chain)
	all := len(x.live)
	kept := x.live[:0]
	for _, e := range x.live {
		if keep(e & offsetMask << 3) {
			kept = append(kept, e)
		}
	}
	if len(kept) == all {
		return
	}
	fresh := x.allocate(depth)
	for _, e := range kept {
		x.add(fresh, e)
	}
	x.publish(prefix, depth, fresh)
	x.release(chain)
	x.entries -= uint64(all - len(kept))
}

// gather copies the entries of a chain into live.
func (x *index) gather(chain uint32) {
	x.live = x.live[:0]
	for n := chain; n != 0; {
		b := x.block(n)
		for _, w := range b[1:] {
			if w > marker {
				x.live = append(x.live, w)
			}
		}
		n = b.link()
	}
}

// add stores an entry in a chain that is not published yet.
func (x *index) add(chain uint32, e uint64) {
	for !x.put(chain, e) {
		x.extend(chain)
	}
}

// extend links an empty block behind the last one of a chain.
func (x *index) extend(chain uint32) {
	last := x.block(chain)
	for last.link() != 0 {
		last = x.block(last.link())
	}
	atomic.StoreUint64(&last[0], last[0]|header(x.allocate(minDepth), minDepth))
}

// publish lets the directory name block n for all hashes of the prefix.
func (x *index) publish(prefix uint64, depth, n uint32) {
	d := x.depth.Load()
	width := uint64(1) << (d - depth)
	for i := prefix * width; i < (prefix+1)*width; i++ {
		atomic.StoreUint32(&x.dirs[1<<d|i], n)
	}
}

// allocate returns an empty block.
func (x *index) allocate(depth uint32) uint32 {
	var n uint32
	if last := len(x.free) - 1; last >= 0 {
		n, x.free = x.free[last], x.free[:last]
		b := x.block(n)
		for i := range b {
			atomic.StoreUint64(&b[i], 0) // readers that came by an old directory may still look
		}
	} else {
		n = x.next // in bounds: see newIndex
		x.next++
	}
	atomic.StoreUint64(&x.block(n)[0], header(0, depth))
	return n
}

// release frees the blocks of a chain that the directory does not name any more. The generation moves first: a reader
// that sees a block used again sees that too.
func (x *index) release(chain uint32) {
	x.generation.Add(1)
	for n := chain; n != 0; {
		link := x.block(n).link()
		x.free = append(x.free, n)
		n = link
	}
}

// bytes is the memory in use: blocks, free ones included, and all directories up to the present one.
func (x *index) bytes() uint64 {
	return uint64(x.next)*blockWords*8 + 8<<x.depth.Load()
}
