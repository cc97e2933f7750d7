package ptx

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync"
)

// The heap is chunks. A chunk's word says what it is:
//
//	0                 free
//	1 + class         blocks of one size class, behind a table of one byte each: 1 if the block is allocated
//	large | n<<8      the first of n chunks that are one block; the words of the others are 0 and mean nothing
//
// A block's byte is changed by the transaction that allocates or frees it, through its log, and blocks belong to one
// transaction at a time, so neighbours in the table do not disturb each other. A chunk of blocks stays one of that class. Whose turn it is
// with a block is known in memory only: load finds it again.
const (
	chunkSize = 16 << 10
	large     = 0xff
)

// classes are the sizes of blocks, in bytes. Sizes that are multiples of 64 begin at such.
var classes = [...]uint64{16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 2688, 4032, 5376, 8128}

// blocksOf is how many blocks of a class fit into a chunk, and firstOf where the first one begins in it.
func blocksOf(class int) uint64 {
	size := classes[class]
	n := chunkSize / (size + 1)
	for up(n, 64)+n*size > chunkSize {
		n--
	}
	return n
}

func firstOf(class int) uint64 { return up(blocksOf(class), 64) }

// classFor is the smallest class for n bytes; len(classes) if there is none.
func classFor(n uint64) int {
	i, _ := slices.BinarySearch(classes[:], n)
	return i
}

// block is an allocation: of a class, or, with class large, of n chunks.
type block struct {
	off   uint64
	class int
	n     uint64
}

// heap is what is known of the chunks in memory.
type heap struct {
	mu     sync.Mutex
	at     *layout
	blocks [len(classes)][]uint64 // places that are free for anybody
	chunks []bool                 // free
	left   uint64                 // how many
}

// load finds the free blocks and chunks.
func (h *heap) load(at *layout, b []byte) error {
	h.at, h.chunks = at, make([]bool, at.chunks)
	for i := uint64(0); i < at.chunks; {
		word := binary.LittleEndian.Uint64(b[at.chunkWords()+8*i:])
		class := int(word&0xff) - 1
		switch n := word >> 8; {
		case word == 0:
			h.chunks[i] = true
			h.left++
			i++
		case word&0xff == large && n > 0 && n <= at.chunks-i:
			i += n
		case n == 0 && class < len(classes):
			if err := h.loadBlocks(i, class, b); err != nil {
				return err
			}
			i++
		default:
			return fmt.Errorf("%w: chunk %d is of kind %#x; open another copy of the region", ErrDamaged, i, word)
		}
	}
	return nil
}

func (h *heap) loadBlocks(chunk uint64, class int, b []byte) error {
	start := h.at.chunk(chunk)
	for i := blocksOf(class); i > 0; i-- { // so that the first are given away first
		switch b[start+i-1] {
		case 0:
			h.blocks[class] = append(h.blocks[class], start+firstOf(class)+(i-1)*classes[class])
		case 1:
		default:
			return fmt.Errorf("%w: block %d of chunk %d is in state %d; open another copy of the region", ErrDamaged, i-1, chunk, b[start+i-1])
		}
	}
	return nil
}

// Alloc allocates n bytes, at a multiple of 16, of 64 if n is one. What they hold is undefined. The allocation is part of the transaction; nobody
// else can know the block before Commit, and until then its writes need no log. Errors: ErrNoSpace; ErrLogFull. The transaction goes on
// after ErrNoSpace.
func (t *Tx) Alloc(n uint64) (uint64, error) {
	if t.tx == nil {
		panic("ptx: a transaction was used after its end")
	}
	if t.err != nil {
		return 0, t.err
	}
	class := classFor(max(n, 1))
	if class == len(classes) {
		return t.allocLarge(n)
	}
	off, ok := t.takeBlock(class)
	if !ok {
		return 0, t.p.heap.noSpace(n)
	}
	b := block{off: off, class: class}
	t.taken = append(t.taken, b)
	t.setState(b, 1)
	t.fresh = append(t.fresh, span{off, off + classes[class]})
	return off, t.err
}

// takeBlock is a free block of a class, from a new chunk if there is none.
func (t *Tx) takeBlock(class int) (off uint64, ok bool) {
	for i := len(t.private) - 1; i >= 0; i-- {
		if t.private[i].class == class {
			off = t.private[i].off
			t.private = slices.Delete(t.private, i, i+1)
			return off, true
		}
	}
	h := &t.p.heap
	off, chunk, ok := h.takeFree(class)
	if !ok || off != 0 {
		return off, ok
	}
	// Whatever becomes of the transaction, this stays. Nobody else may have blocks of the chunk before it is durable: they
	// would be lost with it.
	start, size := h.at.chunk(chunk), classes[class]
	t.tx.Write(start, make([]byte, firstOf(class)))
	t.tx.Barrier()
	t.tx.Store64(h.at.chunkWords()+8*chunk, uint64(class)+1)
	t.tx.Barrier()
	for i := blocksOf(class) - 1; i > 0; i-- {
		t.private = append(t.private, block{off: start + firstOf(class) + i*size, class: class})
	}
	return start + firstOf(class), true
}

// takeFree is a free block of a class, or, with off 0, a free chunk. It does all for which others have to wait: the lock is not held
// while the region is written to, for threads of modelled hardware take turns there.
func (h *heap) takeFree(class int) (off, chunk uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.blocks[class]); n > 0 {
		off = h.blocks[class][n-1]
		h.blocks[class] = h.blocks[class][:n-1]
		return off, 0, true
	}
	chunk, ok = h.takeChunks(1)
	return 0, chunk, ok
}

// takeChunks is the first of n free chunks in a row. Under mu.
func (h *heap) takeChunks(n uint64) (uint64, bool) {
	if n > h.left {
		return 0, false
	}
	run := uint64(0)
	for i, free := range h.chunks {
		if run++; !free {
			run = 0
		}
		if run == n {
			first := uint64(i) + 1 - n
			for j := first; j < first+n; j++ {
				h.chunks[j] = false
			}
			h.left -= n
			return first, true
		}
	}
	return 0, false
}

func (h *heap) noSpace(n uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Errorf("%w: %d bytes are needed, %d chunks of %d bytes are free, not in a row perhaps: free something, or make a larger region",
		ErrNoSpace, n, h.left, chunkSize)
}

func (t *Tx) allocLarge(n uint64) (uint64, error) {
	h := &t.p.heap
	count := n/chunkSize + min(n%chunkSize, 1)
	h.mu.Lock()
	first, ok := h.takeChunks(count)
	h.mu.Unlock()
	if !ok {
		return 0, h.noSpace(n)
	}
	b := block{off: h.at.chunk(first), class: large, n: count}
	t.taken = append(t.taken, b)
	t.setState(b, 1)
	t.fresh = append(t.fresh, span{b.off, b.off + count*chunkSize})
	return b.off, t.err
}

// setState allocates or frees a block, through the log.
func (t *Tx) setState(b block, state byte) {
	if b.class != large {
		t.change(t.at.stateOf(b), []byte{state})
		return
	}
	var word [8]byte
	if state == 1 {
		binary.LittleEndian.PutUint64(word[:], large|b.n<<8)
	}
	t.change(t.at.chunkWords()+8*((b.off-t.at.heap)/chunkSize), word[:])
}

// stateOf is the place of a block's byte.
func (l *layout) stateOf(b block) uint64 {
	start := l.heap + (b.off-l.heap)/chunkSize*chunkSize
	return start + (b.off-start-firstOf(b.class))/classes[b.class]
}

// Free frees the block at off. It may be allocated again, by anybody, once the transaction has committed; until then it keeps what it
// holds. ErrBadFree: no allocated block begins there; the transaction goes on.
func (t *Tx) Free(off uint64) error {
	if t.tx == nil {
		panic("ptx: a transaction was used after its end")
	}
	if t.err != nil {
		return t.err
	}
	b, ok := t.find(off)
	if !ok {
		return fmt.Errorf("%w: place %d", ErrBadFree, off)
	}
	t.setState(b, 0)
	if t.err == nil {
		t.freed = append(t.freed, b)
	}
	return t.err
}

// find is the allocated block at off, as the transaction sees it.
func (t *Tx) find(off uint64) (b block, ok bool) {
	if off < t.at.heap || off >= t.at.chunk(t.at.chunks) {
		return b, false
	}
	chunk := (off - t.at.heap) / chunkSize
	start := t.at.chunk(chunk)
	word := t.Load64(t.at.chunkWords() + 8*chunk)
	class := int(word&0xff) - 1
	switch {
	case word&0xff == large:
		return block{off: off, class: large, n: word >> 8}, off == start
	case class < 0 || class >= len(classes):
		return b, false
	}
	first := start + firstOf(class)
	if off < first || (off-first)%classes[class] != 0 || (off-first)/classes[class] >= blocksOf(class) {
		return b, false
	}
	b = block{off: off, class: class}
	var state [1]byte
	t.Read(t.at.stateOf(b), state[:])
	return b, state[0] == 1
}

// Blocks are the places and sizes of all allocated blocks, to look for some that nobody refers to. No transaction may be under way.
func (p *Pool) Blocks() iter.Seq2[uint64, uint64] {
	return func(yield func(off, size uint64) bool) {
		at, b := p.at, p.region.Bytes()
		for i := uint64(0); i < at.chunks; {
			word := p.region.Load64(at.chunkWords() + 8*i)
			if word&0xff == large {
				if !yield(at.chunk(i), word>>8*chunkSize) {
					return
				}
				i += word >> 8
				continue
			}
			if class := int(word&0xff) - 1; class >= 0 {
				for j := range blocksOf(class) {
					if b[at.chunk(i)+j] == 1 && !yield(at.chunk(i)+firstOf(class)+j*classes[class], classes[class]) {
						return
					}
				}
			}
			i++
		}
	}
}

// committed hands on what a transaction has left over or freed.
func (h *heap) committed(t *Tx) { h.give(t.private, t.freed) }

// aborted hands back what it had allocated.
func (h *heap) aborted(t *Tx) { h.give(t.private, t.taken) }

func (h *heap) give(lists ...[]block) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range lists {
		for _, b := range list {
			if b.class != large {
				h.blocks[b.class] = append(h.blocks[b.class], b.off)
				continue
			}
			first := (b.off - h.at.heap) / chunkSize
			for i := first; i < first+b.n; i++ {
				h.chunks[i] = true
			}
			h.left += b.n
		}
	}
}

// Size is how many bytes the allocated block at off has; at least those that were asked for. ErrBadFree: there is none.
func (t *Tx) Size(off uint64) (uint64, error) {
	b, ok := t.find(off)
	switch {
	case !ok:
		return 0, fmt.Errorf("%w: place %d", ErrBadFree, off)
	case b.class == large:
		return b.n * chunkSize, nil
	}
	return classes[b.class], nil
}
