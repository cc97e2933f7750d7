package plog

import (
	"fmt"
	"sort"
)

// Record reads and checks the record at an arena offset, and returns its length without padding. Any goroutine. The
// slices alias the arena.
func (l *Log) Record(off uint64) (Record, int, error) {
	if !l.g.holds(off, RecordHeaderSize) {
		return Record{}, 0, &RecordError{Reason: "the offset is not that of a record"}
	}
	return DecodeRecord(l.rest(off))
}

// Peek is Record without the checksum, for what has been verified already. Any goroutine.
func (l *Log) Peek(off uint64) (Record, bool) {
	if !l.g.holds(off, RecordHeaderSize) {
		return Record{}, false
	}
	r, _, ok := PeekRecord(l.rest(off))
	return r, ok
}

// rest is the arena from off to the end of its segment.
func (l *Log) rest(off uint64) []byte {
	end := off&^(l.g.SegmentSize-1) + l.g.SegmentSize
	return l.arena[off:end:end]
}

// Verify says whether the bytes at r.Off here are exactly the record that r names: length, seq, kind, key hash, checksum
// and padding, and, when it is the first of its segment, the header in front. What it accepts, Recover accepts too, if the
// epoch is right, which Extend checks. Any goroutine. Bytes that have not arrived
// yet cost a look at one word.
func (l *Log) Verify(r Rec) bool {
	if !l.g.holds(r.Off, uint64(r.Len)) || l.m.Load64(l.g.Arena()+r.Off+recSeq) != r.Seq {
		return false
	}
	b := l.rest(r.Off)
	h, n, ok := PeekRecord(b)
	if !ok || n != int(r.Len) || le.Uint32(b[recCheck:]) != r.Sum || h.flags() != r.Flags&^Direct || h.hash() != r.Hash {
		return false
	}
	if checksum(b[recKind:n]) != r.Sum || !wellFormed(b) || !paddingZero(b, n) {
		return false
	}
	return !l.g.firstInSegment(r.Off) || opens(l.arena[r.Off-SegmentHeaderSize:], l.g, r.Off, r.Seq, h.Epoch)
}

func paddingZero(b []byte, n int) bool {
	for _, c := range b[n:pad(uint64(n))] {
		if c != 0 {
			return false
		}
	}
	return true
}

// Iter walks the log's records in order. It is of the log's owner, like the log, and good until a cut below it.
type Iter struct {
	l   *Log
	seq uint64 // of the record that comes next
	off uint64 // arena offset behind the one before
}

// Seek starts a walk at seq, from 1 to End()+1.
func (l *Log) Seek(seq uint64) (Iter, error) {
	if !l.recovered {
		return Iter{}, ErrNotRecovered
	}
	if seq == 0 || seq > l.end+1 {
		return Iter{}, l.noSeq(seq)
	}
	return l.seek(seq)
}

// seek finds the segment by its first seq and walks from there.
func (l *Log) seek(seq uint64) (Iter, error) {
	if seq == l.end+1 {
		return Iter{l: l, seq: seq, off: l.tail}, nil
	}
	used := int(l.g.nextSegment(l.tail) / l.g.SegmentSize)
	s := sort.Search(used, func(i int) bool { return l.first[i] > seq }) - 1
	it := Iter{l: l, seq: l.first[s], off: uint64(s) * l.g.SegmentSize}
	for it.seq < seq {
		if _, _, ok := it.Next(); !ok {
			return Iter{}, fmt.Errorf("plog: %s: no record of seq %d behind offset %d: the log was overwritten; open it anew to learn where", l.name, it.seq, l.g.Arena()+it.off)
		}
	}
	return it, nil
}

// tailBelow is the arena offset where the log ends without seq and what follows it. seq is from 1 to end+1.
func (l *Log) tailBelow(seq uint64) (uint64, error) {
	if seq == 1 {
		return 0, nil
	}
	it, err := l.seek(seq - 1)
	it.Next()
	return it.off, err
}

// Next is the next record up to the log's current end; false: there is none now, but there may be later. The slices alias
// the arena. It checks no checksums: the log was verified when it was recovered or extended.
func (it *Iter) Next() (Rec, Record, bool) {
	l := it.l
	if it.seq > l.end {
		return Rec{}, Record{}, false
	}
	off := it.off
	if next := l.g.nextSegment(off); next < l.g.ArenaSize() && l.first[next/l.g.SegmentSize] == it.seq {
		off = next + SegmentHeaderSize
	}
	b := l.rest(off)
	r, n, ok := PeekRecord(b)
	if !ok || r.Seq != it.seq {
		return Rec{}, Record{}, false // overwritten behind the log's back; Recover tells where
	}
	rec := r.rec(off, n, le.Uint32(b[recCheck:]))
	it.seq, it.off = it.seq+1, rec.End()
	return rec, r, true
}
