package plog

import "fmt"

// Sizes in bytes that the format fixes.
const (
	SuperblockSize    = 32 << 10 // both copies
	ControlSize       = 4 << 10
	SlotSize          = 64
	SegmentHeaderSize = 64
	RecordHeaderSize  = 64
)

const (
	minRingSlots   = 64 // a page of slots, so that the arena starts on a page
	maxRingSlots   = 1 << 20
	minSegmentSize = 64 << 10
	maxSegmentSize = 1 << 30
	maxArena       = 1 << 46 // an index word holds 48 bits of offset/8; a mapping must fit into the address space
)

// Geometry is the shape of a member's memory. It is fixed when the memory is formatted and the same on all members.
type Geometry struct {
	RingSlots   uint64 // slots of the metadata ring: a power of two, 64 to 1 Mi
	SegmentSize uint64 // bytes, header included: a power of two, 64 KiB to 1 GiB
	Segments    uint64 // at least 2
}

// DefaultGeometry has 65536 slots, segments of 8 MiB, and as many of them as fit into arenaBytes.
func DefaultGeometry(arenaBytes uint64) (Geometry, error) {
	g := Geometry{RingSlots: 1 << 16, SegmentSize: 8 << 20, Segments: arenaBytes >> 23}
	if g.Segments < 2 {
		return Geometry{}, fmt.Errorf("plog: an arena of %d bytes is too small: it needs two segments of 8 MiB, %d bytes", arenaBytes, 16<<20)
	}
	return g, g.Validate()
}

// Validate says which field is out of its bounds.
func (g Geometry) Validate() error {
	switch {
	case !isPowerOfTwo(g.RingSlots) || g.RingSlots < minRingSlots || g.RingSlots > maxRingSlots:
		return fmt.Errorf("plog: %d ring slots: want a power of two from %d to %d", g.RingSlots, minRingSlots, maxRingSlots)
	case !isPowerOfTwo(g.SegmentSize) || g.SegmentSize < minSegmentSize || g.SegmentSize > maxSegmentSize:
		return fmt.Errorf("plog: a segment of %d bytes: want a power of two from %d to %d", g.SegmentSize, minSegmentSize, maxSegmentSize)
	case g.Segments < 2 || g.Segments > maxArena/g.SegmentSize:
		return fmt.Errorf("plog: %d segments of %d bytes: want from 2 to %d", g.Segments, g.SegmentSize, maxArena/g.SegmentSize)
	}
	return nil
}

func isPowerOfTwo(x uint64) bool { return x != 0 && x&(x-1) == 0 }

// Control is the memory offset of the control page.
func (g Geometry) Control() uint64 { return SuperblockSize }

// Ring is the memory offset of the metadata ring. It follows the control page directly, so that both are one range to
// register.
func (g Geometry) Ring() uint64 { return SuperblockSize + ControlSize }

// Arena is the memory offset of segment 0, a multiple of 4096.
func (g Geometry) Arena() uint64 { return g.Ring() + g.RingSlots*SlotSize }

// ArenaSize is the number of bytes in all segments.
func (g Geometry) ArenaSize() uint64 { return g.SegmentSize * g.Segments }

// Size is the number of bytes of the whole memory.
func (g Geometry) Size() uint64 { return g.Arena() + g.ArenaSize() }

// SlotOff is the memory offset of seq's slot.
func (g Geometry) SlotOff(seq uint64) uint64 { return g.Ring() + (seq&(g.RingSlots-1))*SlotSize }

// MaxRecord is the length of the largest record, header included.
func (g Geometry) MaxRecord() uint64 { return g.SegmentSize - SegmentHeaderSize }

// Span is the range of the arena that must be copied to replicate r: the padded record and, in front of the first
// record of a segment, the segment's header.
func (g Geometry) Span(r Rec) (off, n uint64) {
	off = r.Off
	if g.firstInSegment(off) {
		off -= SegmentHeaderSize
	}
	return off, r.End() - off
}

// place says where the log puts a record of n bytes when it ends at tail: at the tail, or, if the segment has too little
// room left or none is open, first in the next segment. False: there is no next segment.
func (g Geometry) place(tail, n uint64) (off uint64, ok bool) {
	in := tail & (g.SegmentSize - 1)
	if in != 0 && in+pad(n) <= g.SegmentSize {
		return tail, true
	}
	off = g.nextSegment(tail) + SegmentHeaderSize
	return off, off < g.ArenaSize()
}

// nextSegment is tail itself if that is where a segment starts, else the start of the one that follows.
func (g Geometry) nextSegment(tail uint64) uint64 {
	return (tail + g.SegmentSize - 1) &^ (g.SegmentSize - 1)
}

func (g Geometry) firstInSegment(off uint64) bool {
	return off&(g.SegmentSize-1) == SegmentHeaderSize
}

// holds says whether the record bytes [off, off+n) are aligned and inside one segment, behind its header.
func (g Geometry) holds(off, n uint64) bool {
	in := off & (g.SegmentSize - 1)
	return off&7 == 0 && in >= SegmentHeaderSize && off < g.ArenaSize() &&
		n >= RecordHeaderSize && n <= g.SegmentSize && in+pad(n) <= g.SegmentSize
}

// pad rounds up to 8 bytes.
func pad(n uint64) uint64 { return (n + 7) &^ 7 }
