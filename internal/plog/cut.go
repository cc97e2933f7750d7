package plog

import "fmt"

func (l *Log) noSeq(seq uint64) error {
	return fmt.Errorf("plog: %s: seq %d is outside the log, which ends at %d", l.name, seq, l.end)
}

// CutTo drops every record above seq, durably: the durable end goes down to seq, and the places where the next record
// would be looked for are made invalid. What lies above them stays, and would follow a new record of the same length in
// the same epoch; so Append needs a new epoch afterwards. Cutting at the end itself invalidates what a peer may have
// written above it.
func (l *Log) CutTo(seq uint64) error {
	if !l.recovered {
		return ErrNotRecovered
	}
	if seq > l.end {
		return l.noSeq(seq)
	}
	tail, err := l.tailBelow(seq + 1)
	if err != nil {
		return err
	}
	if err := l.clampDurable(seq); err != nil {
		return err
	}
	l.end, l.tail, l.mark, l.term = seq, tail, min(l.mark, tail), 0
	for s := l.g.nextSegment(tail) / l.g.SegmentSize; s < l.g.Segments; s++ {
		l.first[s] = 0
	}
	return l.invalidate(tail)
}

// clampDurable durably lowers the durable end to seq, if it is above.
func (l *Log) clampDurable(seq uint64) error {
	if _, d := SplitWord(l.ctl.Durable()); d <= seq {
		return nil
	}
	l.ctl.SetDurable(Word(l.super.Epoch, seq))
	if err := makeDurable(l.m, l.g.Control()+OffDurable, 8); err != nil {
		return fmt.Errorf("plog: %s: durable end: %w", l.name, err)
	}
	return nil
}

// invalidate durably zeroes what could pass for the record behind a log that ends at tail: a header at the tail, and
// the header of the next segment.
func (l *Log) invalidate(tail uint64) error {
	start := l.g.nextSegment(tail)
	if err := l.zero(tail, min(tail+RecordHeaderSize, start)); err != nil {
		return err
	}
	if start == l.g.ArenaSize() {
		return nil
	}
	return l.zero(start, start+SegmentHeaderSize)
}

func (l *Log) zero(from, to uint64) error {
	if !allZero(l.arena[from:to]) {
		clear(l.arena[from:to])
	}
	// Also where it is zero already: the run before may have ended between the two, and a loss of power would bring back
	// what was there.
	if err := makeDurable(l.m, l.g.Arena()+from, to-from); err != nil {
		return fmt.Errorf("plog: %s: cut: %w", l.name, err)
	}
	return nil
}
