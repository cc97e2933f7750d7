package sim

import (
	"encoding/binary"
	"hash/crc32"

	"whale/pmem"
)

// memory is a member's persistent memory. While it is armed it ends the process in the middle of what it does: the
// process's armed-th call from now on does not return.
type memory struct {
	*pmem.Simulated
	armed int  // calls until the process ends; 0: it does not
	own   bool // it is the process that calls, not the network
}

// struck is what an armed memory panics with. Nobody but the driver of the engine recovers from it.
type struck struct{}

func (m *memory) strike() {
	if m.own && m.armed > 0 {
		if m.armed--; m.armed == 0 {
			panic(struck{})
		}
	}
}

func (m *memory) Persist(off, n uint64) {
	m.strike()
	m.Simulated.Persist(off, n)
}

func (m *memory) Fence() {
	m.strike()
	m.Simulated.Fence()
}

func (m *memory) Store64(off, v uint64) {
	m.strike()
	m.Simulated.Store64(off, v)
}

// What follows reads a member's memory for the checkers. It is written from the description of the format and shares
// nothing with the code that it checks.

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

const (
	superblocks  = 32 << 10 // two copies of 16 KiB
	controlBytes = 4 << 10
	lineBytes    = 64 // a slot; the header of a segment or record

	wordS, wordDW, wordDurable = 0, 64, 128 // in the control page
	wordForwarded              = 512 + 16   // and in each member's line behind them

	tombstone = 2 // the kind of a record that removes a key

	direct = 640 // bytes of a record that goes to every member without being forwarded
)

// format is where things are in a member's memory.
type format struct{ slots, segment, segments uint64 }

func (f format) word(at uint64) uint64  { return superblocks + at }
func (f format) slot(seq uint64) uint64 { return superblocks + controlBytes + seq%f.slots*lineBytes }
func (f format) arena() uint64          { return superblocks + controlBytes + f.slots*lineBytes }
func (f format) end() uint64            { return f.arena() + f.segment*f.segments }

// split takes a control word apart: the low 16 bits of the epoch, and the seq.
func split(word uint64) (epoch uint16, seq uint64) { return uint16(word >> 48), word & (1<<48 - 1) }

// storedEpoch is the epoch in the newer copy of the superblock that is whole.
func storedEpoch(mem []byte) (epoch uint32) {
	const half = superblocks / 2
	update := uint64(0)
	for at := 0; at < superblocks; at += half {
		b := mem[at : at+half]
		if n := le.Uint64(b[56:]); n >= update && crc32.Checksum(b[:half-4], castagnoli) == le.Uint32(b[half-4:]) {
			update, epoch = n, le.Uint32(b[48:])
		}
	}
	return epoch
}

// updates counts how often the superblock was written.
func updates(mem []byte) uint64 { return max(le.Uint64(mem[56:]), le.Uint64(mem[superblocks/2+56:])) }

// newestEntry is the epoch of the last entry in the epoch table of the newer copy of the superblock; 0: there is none.
func newestEntry(mem []byte) uint32 {
	at := mem
	if le.Uint64(mem[superblocks/2+56:]) > le.Uint64(mem[56:]) {
		at = mem[superblocks/2:]
	}
	if n := uint64(le.Uint32(at[52:])); n > 0 && 128+24*n < superblocks/2 {
		return le.Uint32(at[128+24*(n-1):])
	}
	return 0
}

// hasSlot says whether the slot of a record lies in the ring, whole and of that epoch.
func (f format) hasSlot(mem []byte, r *record, epoch uint32) bool {
	b := mem[f.slot(r.seq):][:lineBytes]
	return le.Uint64(b) == r.seq && le.Uint64(b[16:]) == r.off && le.Uint32(b[40:]) == epoch &&
		le.Uint32(b[44:]) == r.size && le.Uint32(b[48:]) == r.sum && crc32.Checksum(b[:60], castagnoli) == le.Uint32(b[60:])
}

// record is one record of the log as the checkers saw it first, durable at P.
type record struct {
	seq, off  uint64 // off is counted from the arena's start
	size, sum uint32
	epoch     uint32
	kind      byte
	last      bool // of its group
	value     int  // the number of the value in it; 0: none
	buried    int  // tombstones up to here, it included
	timed     int  // and records with deadlines
	deadline  int64
	prev      uint64 // where the key's older version is
}

func (r *record) padded() uint64 { return (uint64(r.size) + 7) &^ 7 }

// next reads the record of a seq behind a log that ends at arena offset tail: there, or first in the next segment.
func (f format) next(mem []byte, seq, tail uint64) (r record, ok bool) {
	arena := mem[f.arena():]
	if in := tail % f.segment; in != 0 && in+lineBytes <= f.segment {
		if r, ok = f.at(arena, seq, tail); ok {
			return r, true
		}
	}
	start := (tail + f.segment - 1) / f.segment * f.segment
	if start == f.segment*f.segments {
		return r, false
	}
	if h := arena[start:][:lineBytes]; le.Uint64(h[24:]) != seq || crc32.Checksum(h[:60], castagnoli) != le.Uint32(h[60:]) {
		return r, false // the segment's header is none, or another record's
	}
	return f.at(arena, seq, start+lineBytes)
}

func (f format) at(arena []byte, seq, off uint64) (r record, ok bool) {
	b := arena[off:min(f.segment*f.segments, off/f.segment*f.segment+f.segment)]
	size := lineBytes + uint64(le.Uint32(b[20:])) + uint64(le.Uint32(b[24:]))
	if le.Uint64(b[8:]) != seq || size > uint64(len(b)) {
		return r, false
	}
	r = record{seq: seq, off: off, size: uint32(size), sum: le.Uint32(b), epoch: le.Uint32(b[16:]), kind: b[4], last: b[5]&1 != 0}
	if crc32.Checksum(b[4:size], castagnoli) != r.sum {
		return r, false
	}
	r.value = valueNumber(b[lineBytes+le.Uint32(b[20:]) : size])
	r.prev, r.deadline = le.Uint64(b[32:]), int64(le.Uint64(b[40:]))
	return r, true
}

// holds says whether the memory has exactly this record in its place, and in front of the first one of a segment the
// segment's header.
func (f format) holds(mem []byte, r *record) bool {
	b := mem[f.arena()+r.off:][:r.size]
	if le.Uint32(b) != r.sum || le.Uint64(b[8:]) != r.seq || crc32.Checksum(b[4:], castagnoli) != r.sum {
		return false
	}
	if r.off%f.segment != lineBytes {
		return true
	}
	h := mem[f.arena()+r.off-lineBytes:][:lineBytes]
	return le.Uint64(h[24:]) == r.seq && crc32.Checksum(h[:60], castagnoli) == le.Uint32(h[60:])
}
