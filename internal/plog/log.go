package plog

import (
	"fmt"
	"slices"
	"sync"

	"whale/pmem"
)

// Log is a member's memory with the log in it. One goroutine owns it; Record, Peek and Verify, which touch nothing but
// the arena, may be called from any.
//
// At P the log grows by Append, at a backup by Extend of records whose bytes a peer has written. In both cases Commit
// makes the new end durable.
type Log struct {
	m     pmem.Memory
	name  string
	g     Geometry
	arena []byte
	ctl   Control
	super Superblock

	recovered bool
	term      uint32   // the epoch in which Append may write; 0: none
	end       uint64   // seq of the last record
	tail      uint64   // arena offset behind it
	mark      uint64   // [mark, tail) is not persisted yet; always inside one segment
	first     []uint64 // seq of each segment's first record, 0: not in use

	ahead prefetch
}

// Open reads the superblock of a formatted memory. name is the file's, for errors. A memory that was never formatted
// gives ErrUnformatted; one of another shard or member, another format or another size is refused. The log itself is
// read by Recover.
func Open(m pmem.Memory, name string, want Identity) (*Log, error) {
	s, err := readSuperblock(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if s.Identity != want {
		return nil, fmt.Errorf("%s: belongs to shard %d, member %d, expected shard %d, member %d: is it the right folder?",
			name, s.Shard, s.Member, want.Shard, want.Member)
	}
	g := s.Geometry
	l := &Log{
		m: m, name: name, g: g, super: s,
		arena: m.Bytes()[g.Arena():g.Size()],
		ctl:   ControlOf(m, g),
		first: make([]uint64, g.Segments),
	}
	return l, nil
}

// Close waits for work in the background, after which the memory may be unmapped. It returns the first error of
// prefaulting, which costs speed but no data.
func (l *Log) Close() error { return l.ahead.wait() }

func (l *Log) Geometry() Geometry  { return l.g }
func (l *Log) Memory() pmem.Memory { return l.m }
func (l *Log) Control() Control    { return l.ctl }

// Name is the file's.
func (l *Log) Name() string { return l.name }

// Superblock is a copy of the current one.
func (l *Log) Superblock() Superblock {
	s := l.super
	s.Table = slices.Clone(s.Table)
	return s
}

// Epoch is the highest epoch stored.
func (l *Log) Epoch() uint32 { return l.super.Epoch }

// End is the seq of the last record here, 0 if there is none: appended at P, extended at a backup.
func (l *Log) End() uint64 { return l.end }

// Tail is the arena offset behind the last record: where the next goes, unless it does not fit there. At the start of
// a segment (as in an empty log) it means that the next record opens that segment.
func (l *Log) Tail() uint64 { return l.tail }

// Free is the number of bytes behind the tail, the headers of segments included.
func (l *Log) Free() uint64 { return l.g.ArenaSize() - l.tail }

// SetEpoch stores a higher epoch durably; the same one is fine. From then on nothing is appended before AddEntry.
func (l *Log) SetEpoch(e uint32) error {
	switch {
	case e < l.super.Epoch:
		return fmt.Errorf("plog: %s: epoch %d is stored, it cannot go back to %d", l.name, l.super.Epoch, e)
	case e == l.super.Epoch:
		return nil
	}
	s := l.super
	s.Epoch = e
	if err := l.setSuper(s); err != nil {
		return err
	}
	l.term = 0
	return nil
}

// SetBoot durably stores the operating system's boot id and the domain that the memory has now.
func (l *Log) SetBoot(boot [16]byte) error {
	s := l.super
	s.BootID, s.Domain = boot, uint8(l.m.Domain())
	return l.setSuper(s)
}

func (l *Log) setSuper(s Superblock) error {
	s.Update++
	if err := writeSuperblock(l.m, &s); err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	l.super = s
	return nil
}

// AddEntry enters a view into the epoch table and drops every record at or above its first seq, both durable on return.
// It replaces entries at or above that seq; an entry that is there already changes nothing. On a member that lags behind,
// the first seq may lie above End()+1; the records up to it come later, in their own epochs. FirstOff must be where the
// log ends below FirstSeq: another offset means that the logs of two members differ, and nothing is changed.
//
// When FirstSeq is End()+1 and the epoch is the current one, Append may follow.
func (l *Log) AddEntry(e EpochEntry) error {
	if !l.recovered {
		return ErrNotRecovered
	}
	if slices.Contains(l.super.Table, e) {
		return nil
	}
	s, err := l.super.with(e)
	if err != nil {
		return fmt.Errorf("plog: %s: %w", l.name, err)
	}
	tail := l.tail
	if e.FirstSeq <= l.end {
		if tail, err = l.tailBelow(e.FirstSeq); err != nil {
			return err
		}
	}
	if e.FirstOff < tail || (e.FirstOff > tail && e.FirstSeq <= l.end+1) {
		return fmt.Errorf("plog: %s: epoch %d starts with seq %d at offset %d, but the log below it ends at %d: the members' logs differ",
			l.name, e.Epoch, e.FirstSeq, e.FirstOff, tail)
	}
	// The durable end goes down first: between here and the cut, records of the dropped views lie above FirstSeq, which
	// recovery must cut, not report as damage.
	if err := l.clampDurable(e.FirstSeq - 1); err != nil {
		return err
	}
	if err := l.setSuper(s); err != nil {
		return err
	}
	if e.FirstSeq <= l.end {
		if err := l.CutTo(e.FirstSeq - 1); err != nil {
			return err
		}
	}
	l.term = 0
	if e.FirstSeq == l.end+1 && e.Epoch == l.super.Epoch {
		l.term = e.Epoch
	}
	return nil
}

// prefetch prefaults a segment in the background, for the first touch of a page costs more than a write.
type prefetch struct {
	wg  sync.WaitGroup
	mu  sync.Mutex
	err error
}

type prefaulter interface{ Prefault(off, n uint64) error }

// start returns at once. Memory that cannot be prefaulted needs none.
func (p *prefetch) start(m pmem.Memory, off, n uint64) {
	f, ok := m.(prefaulter)
	if !ok {
		return
	}
	p.wg.Go(func() {
		if err := f.Prefault(off, n); err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.err == nil {
				p.err = err
			}
		}
	})
}

func (p *prefetch) wait() error {
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
