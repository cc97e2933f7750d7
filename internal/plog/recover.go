package plog

import (
	"errors"
	"fmt"
)

// Recovery is what Recover found and kept.
type Recovery struct {
	End     uint64 // seq of the last record kept
	Records uint64 // records kept, all of seqs 1 to End
	Bytes   uint64 // of the arena up to the end, the headers and rests of segments included
	Durable uint64 // the durable end that was recorded; above End only by records of a group without its end

	// What was cut off above the end. CutBytes counts whole records of a group without its end, and the 64 bytes where
	// the next record would be.
	CutRecords uint64
	CutBytes   uint64
	CutOffset  uint64 // in the file; 0: nothing was cut
	CutReason  string
}

// DamageError: a record at or below the own durable end is not there. This log has lost what it once held, and must not
// become the truth.
type DamageError struct {
	File    string
	Offset  uint64 // in the file, of the record's or the segment's header
	Seq     uint64 // the record that cannot be read
	Want    uint32 // the checksum that is stored at Offset
	Got     uint32 // the checksum of what is there
	Durable uint64 // the own durable end
	Reason  string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: damaged at offset %d, seq %d: %s (checksum stored %08x, computed %08x); everything up to seq %d was durable here: restore the file, or remove it so that this member copies the log from the others",
		e.File, e.Offset, e.Seq, e.Reason, e.Want, e.Got, e.Durable)
}

// Recover finds the log in the arena: from segment 0 the longest run of dense seqs whose checksums hold and whose epoch
// is the one that the epoch table gives, cut to the last end of a group. It calls visit, if there is one, for each record
// that stays, in order; the slices alias the arena.
//
// A run that ends below the own durable end is a *DamageError, and the memory is left as it was; visit may have been
// called. Otherwise everything found becomes durable, and what lies above is made invalid, durably. The epoch tag of the
// durable end is ignored.
func (l *Log) Recover(visit func(r Record, rec Rec)) (Recovery, error) {
	l.recovered, l.term = false, 0
	clear(l.first)
	_, durable := SplitWord(l.ctl.Durable())
	s := scan{l: l, visit: visit}
	f := s.run(durable)
	if s.last < durable {
		return Recovery{}, &DamageError{File: l.name, Offset: l.g.Arena() + f.off, Seq: s.last + 1,
			Want: f.want, Got: f.got, Durable: durable, Reason: f.reason}
	}
	for i := l.g.nextSegment(s.keepTail) / l.g.SegmentSize; i < l.g.Segments; i++ {
		l.first[i] = 0
	}
	l.end, l.tail, l.mark, l.recovered = s.keep, s.keepTail, min(s.mark, s.keepTail), true
	rec := Recovery{End: s.keep, Records: s.keep, Bytes: s.keepTail, Durable: durable}
	s.report(&rec, f)
	for _, gap := range s.dirty {
		if err := l.zero(gap.from, gap.to); err != nil {
			return rec, err
		}
	}
	if err := l.clampDurable(l.end); err != nil {
		return rec, err
	}
	l.Commit()
	// The word was stored by the run before, which may have ended before it was flushed: nothing else would flush it now.
	if err := makeDurable(l.m, l.g.Control()+OffDurable, 8); err != nil {
		return rec, fmt.Errorf("plog: %s: durable end: %w", l.name, err)
	}
	if err := l.invalidate(l.tail); err != nil {
		return rec, err
	}
	l.prefaultTail()
	return rec, nil
}

// prefaultTail has the rest of the current segment and the whole next one touched.
func (l *Log) prefaultTail() {
	to := min(l.g.nextSegment(l.tail+1)+l.g.SegmentSize, l.g.ArenaSize())
	if l.tail < to {
		l.ahead.start(l.m, l.g.Arena()+l.tail, to-l.tail)
	}
}

// scan is a walk over records that nobody has vouched for yet.
type scan struct {
	l     *Log
	visit func(r Record, rec Rec)

	last, tail     uint64 // the last valid record, and where it ends
	keep, keepTail uint64 // the last end of a group, and where that ends
	mark           uint64 // where the records above the durable end begin

	// Rests of segments that are not zero: a crash took the zeros, which were not durable yet, and left the record that
	// opened the next segment.
	dirty []span
}

type span struct{ from, to uint64 }

// run walks until it finds no valid record and says why.
func (s *scan) run(durable uint64) *fault {
	l := s.l
	for {
		rec, r, f := l.find(s.last+1, s.tail)
		if f != nil {
			return f
		}
		if l.g.firstInSegment(rec.Off) {
			l.first[rec.Off/l.g.SegmentSize] = rec.Seq
			if rest := (span{s.tail, rec.Off - SegmentHeaderSize}); !allZero(l.arena[rest.from:rest.to]) {
				s.dirty = append(s.dirty, rest)
			}
		}
		s.last, s.tail = rec.Seq, rec.End()
		if rec.Seq <= durable {
			s.mark = s.tail
		}
		if r.GroupEnd {
			s.release(rec, r)
		}
	}
}

// release visits the records of the group that ends with rec. Those before it were held back; they are walked once more,
// so that a group of any length costs no memory.
func (s *scan) release(rec Rec, r Record) {
	if s.visit != nil {
		s.l.end = rec.Seq
		for it := (Iter{l: s.l, seq: s.keep + 1, off: s.keepTail}); it.seq < rec.Seq; {
			held, h, ok := it.Next()
			if !ok {
				break // changed under our hands
			}
			s.visit(h, held)
		}
		s.visit(r, rec)
	}
	s.keep, s.keepTail = s.last, s.tail
}

func (s *scan) report(r *Recovery, f *fault) {
	l := s.l
	if s.last > s.keep {
		r.CutRecords, r.CutBytes = s.last-s.keep, s.tail-s.keepTail
		r.CutOffset = l.g.Arena() + s.keepTail
		r.CutReason = fmt.Sprintf("seqs %d to %d are of a group without its end", s.keep+1, s.last)
		return
	}
	if b := l.arena[f.off:min(f.off+RecordHeaderSize, l.g.ArenaSize())]; !allZero(b) {
		r.CutBytes, r.CutOffset = uint64(len(b)), l.g.Arena()+f.off
		r.CutReason = fmt.Sprintf("seq %d: %s (checksum stored %08x, computed %08x)", s.last+1, f.reason, f.want, f.got)
	}
}

// fault says why there is no record at an arena offset.
type fault struct {
	off       uint64
	reason    string
	want, got uint32
}

// find is the record of seq behind a log that ends at tail: there, or first in the next segment if it did not fit. When
// both places fail, the fault is of the one where it must have been.
func (l *Log) find(seq, tail uint64) (Rec, Record, *fault) {
	start := l.g.nextSegment(tail)
	room := start-tail >= RecordHeaderSize
	var here *fault
	if room {
		rec, r, f := l.check(seq, tail)
		if f == nil {
			return rec, r, nil
		}
		here = f
	}
	if start == l.g.ArenaSize() {
		if here == nil {
			here = &fault{off: start, reason: "the arena ends before it"}
		}
		return Rec{}, Record{}, here
	}
	header := l.arena[start : start+SegmentHeaderSize]
	h, ok := decodeSegmentHeader(header)
	if ok && h == headerFor(l.g, start, seq, h.epoch) {
		rec, r, f := l.check(seq, start+SegmentHeaderSize)
		if f != nil {
			return Rec{}, Record{}, f
		}
		off, _ := l.g.place(tail, uint64(rec.Len))
		if off == rec.Off && h.epoch == r.Epoch {
			return rec, r, nil
		}
	}
	// A record that moved on leaves zeros at the tail.
	moved := !room || (allZero(l.arena[tail:tail+RecordHeaderSize]) && !ok && !allZero(header))
	if !moved {
		return Rec{}, Record{}, here
	}
	f := &fault{off: start, reason: "the segment's header is damaged", want: le.Uint32(header[segCheck:]), got: checksum(header[:segCheck])}
	if ok {
		f.reason = fmt.Sprintf("the segment's header is that of segment %d, generation %d, epoch %d, first seq %d", h.number, h.generation, h.epoch, h.firstSeq)
	}
	return Rec{}, Record{}, f
}

// check is the record of seq at off, with everything checked that can be.
func (l *Log) check(seq, off uint64) (Rec, Record, *fault) {
	b := l.rest(off)
	r, n, err := DecodeRecord(b)
	if err != nil {
		var e *RecordError
		errors.As(err, &e)
		return Rec{}, Record{}, &fault{off, e.Reason, e.Want, e.Got}
	}
	sum := le.Uint32(b[recCheck:])
	reason := ""
	switch {
	case r.Seq != seq:
		reason = fmt.Sprintf("the record there is of seq %d", r.Seq)
	case !l.super.admits(seq, r.Epoch):
		e, _ := l.super.entryAt(seq)
		reason = fmt.Sprintf("the record there is of epoch %d, the epoch table gives %d", r.Epoch, e.Epoch)
	case !paddingZero(b, n):
		reason = "the padding behind the record is not zero"
	default:
		return r.rec(off, n, sum), r, nil
	}
	return Rec{}, Record{}, &fault{off, reason, sum, sum}
}
