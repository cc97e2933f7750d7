package plog

import "fmt"

// reserve is what Fits keeps back, so that deletes work when the arena is full: 3%, or one segment if that is more.
func (g Geometry) reserve() uint64 { return max(g.ArenaSize()*3/100, g.SegmentSize) }

// Fits says whether records of these lengths (RecordSize), appended in order, all find room. Without useReserve a few
// per cent of the arena are left untouched.
func (l *Log) Fits(sizes []uint64, useReserve bool) bool {
	limit := l.g.ArenaSize()
	if !useReserve {
		limit -= l.g.reserve()
	}
	tail := l.tail
	for _, n := range sizes {
		off, ok := l.g.place(tail, n)
		if !ok || n > l.g.MaxRecord() {
			return false
		}
		tail = off + pad(n)
	}
	return tail <= limit
}

// Append puts r at the end of the log and stamps it with the current epoch, r.Epoch included. r.Seq must be End()+1.
// The bytes are visible on return, but durable only after Commit. On ErrFull or ErrTooLarge nothing has changed.
func (l *Log) Append(r *Record) (Rec, error) {
	if l.term == 0 || r.Seq != l.end+1 || !r.Kind.valid() || (r.Kind == FlushAll && len(r.Key) != 0) {
		return Rec{}, l.refuse(r)
	}
	n := RecordSize(len(r.Key), len(r.Value))
	if n > l.g.MaxRecord() {
		return Rec{}, fmt.Errorf("%w: %d bytes with its key and header, at most %d", ErrTooLarge, n, l.g.MaxRecord())
	}
	off, ok := l.g.place(l.tail, n)
	if !ok {
		return Rec{}, ErrFull
	}
	r.Epoch = l.term
	if l.g.firstInSegment(off) {
		l.openSegment(off, r.Seq)
		headerFor(l.g, off, r.Seq, r.Epoch).encode(l.arena[off-SegmentHeaderSize:])
	}
	word := r.put(l.arena[off:])
	l.m.Store64(l.g.Arena()+off, word)
	rec := r.rec(off, int(n), uint32(word))
	l.end, l.tail = r.Seq, rec.End()
	return rec, nil
}

func (l *Log) refuse(r *Record) error {
	switch {
	case !l.recovered:
		return ErrNotRecovered
	case l.term == 0:
		return ErrNoEpoch
	case r.Seq != l.end+1:
		return fmt.Errorf("plog: seq %d appended to a log that ends at %d", r.Seq, l.end)
	}
	return fmt.Errorf("plog: a record of kind %d with a key of %d bytes", r.Kind, len(r.Key))
}

// Extend makes the record that r names, which Verify has accepted, the log's new end. The bytes are here already. It
// must be the next seq, of the epoch that the table gives for it, at the place where P's Append puts it.
func (l *Log) Extend(r Rec) error {
	if !l.recovered {
		return ErrNotRecovered
	}
	if r.Seq != l.end+1 {
		return fmt.Errorf("plog: %s: seq %d cannot follow the log's end %d", l.name, r.Seq, l.end)
	}
	off, ok := l.g.place(l.tail, uint64(r.Len))
	if !ok || off != r.Off || !l.g.holds(r.Off, uint64(r.Len)) {
		return fmt.Errorf("plog: %s: seq %d, %d bytes at offset %d: expected at %d, behind a log that ends at %d", l.name, r.Seq, r.Len, r.Off, off, l.tail)
	}
	epoch := le.Uint32(l.arena[off+recEpoch:])
	e, ok := l.super.entryAt(r.Seq)
	if !ok || !l.super.admits(r.Seq, epoch) {
		return fmt.Errorf("plog: %s: seq %d is of epoch %d, the epoch table has %+v", l.name, r.Seq, epoch, e)
	}
	if e.FirstSeq == r.Seq && e.FirstOff != l.tail {
		return fmt.Errorf("plog: %s: epoch %d starts at offset %d, but the log below seq %d ends at %d: the members' logs differ", l.name, e.Epoch, e.FirstOff, r.Seq, l.tail)
	}
	if l.g.firstInSegment(off) {
		l.openSegment(off, r.Seq)
	}
	l.end, l.tail = r.Seq, r.End()
	return nil
}

// openSegment moves on to the segment whose first record is at off. What is left of the old one becomes zero: it may hold
// pieces of dropped records, and the arenas of all members must be the same bytes.
func (l *Log) openSegment(off, seq uint64) {
	start := off - SegmentHeaderSize
	l.persist(l.mark, l.tail)
	if rest := l.arena[l.tail:start]; !allZero(rest) {
		clear(rest)
		l.persist(l.tail, start)
	}
	l.mark = start
	l.first[start/l.g.SegmentSize] = seq
	if next := start + l.g.SegmentSize; next < l.g.ArenaSize() {
		l.ahead.start(l.m, l.g.Arena()+next, l.g.SegmentSize)
	}
}

func (l *Log) persist(from, to uint64) {
	if from < to {
		l.m.Persist(l.g.Arena()+from, to-from)
	}
}

// Commit makes everything up to End durable, then stores the own durable end. That word is flushed too but not waited
// for: after a loss of power it may be one Commit old, which is safe, since it only says how much must be there.
//
// In a memory of the domain FileSynced the caller owes a Sync besides.
func (l *Log) Commit() {
	word := Word(l.super.Epoch, l.end)
	if l.mark == l.tail && l.ctl.Durable() == word {
		return
	}
	l.persist(l.mark, l.tail)
	l.mark = l.tail
	l.m.Fence() // also for the segments that were left, and persisted, since the last Commit
	l.ctl.SetDurable(word)
	l.m.Persist(l.g.Control()+OffDurable, 8)
}
