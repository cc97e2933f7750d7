package plog

import (
	"slices"
	"strings"
	"testing"
)

// Trap 10 of the protocol: a log that brings back records which an earlier view dropped. Here they lie whole behind a new
// record of the same length.
func TestDroppedRecordsDoNotComeBack(t *testing.T) {
	build := func(cut func(l *Log)) *Log {
		l := newLog(t, smallGeometry)
		for i := range 10 {
			put(t, l, keyOf(i), 50)
		}
		l.Commit()
		cut(l)
		l = reopen(t, l.Memory())
		if l.End() != 4 {
			t.Fatalf("after the cut and a restart the log ends at %d", l.End())
		}
		enter(t, l, 3)
		rec := put(t, l, keyOf(4), 50) // in the place of the first dropped one
		if next, ok := l.Peek(rec.End()); !ok || next.Seq != 6 || next.Epoch != 1 {
			t.Fatalf("the test is void: behind it is %+v", next)
		}
		l.Commit()
		return l
	}
	for name, cut := range map[string]func(l *Log){
		"CutTo":    func(l *Log) { must(t, l.CutTo(4)); must(t, l.SetEpoch(2)) },
		"AddEntry": func(l *Log) { must(t, l.AddEntry(EpochEntry{2, 5, recs(t, l)[4].Off})) },
	} {
		m := build(cut).Memory()
		unchecked := clone(m)
		if again := reopen(t, m); again.End() != 5 {
			t.Errorf("%s: recovered to seq %d, want 5", name, again.End())
		}
		// What stops them is the epoch table, and nothing else: with a table that admits every epoch they come back.
		broken, err := Open(unchecked, "a.whale", testIdentity)
		must(t, err)
		broken.super.Table = []EpochEntry{{3, 1, 0}}
		broken.super.Merged = true
		_, err = broken.Recover(nil)
		must(t, err)
		if broken.End() != 10 {
			t.Errorf("%s: without the epoch rule the log ends at %d: this test could not fail", name, broken.End())
		}
	}
}

// The same, in one epoch, has no defence in the table; so Append is refused until there is a new one.
func TestAppendNeedsANewEpochAfterACutOrARestart(t *testing.T) {
	l := newLog(t, smallGeometry)
	for i := range 10 {
		put(t, l, keyOf(i), 50)
	}
	l.Commit()
	refused := func(name string, l *Log) {
		t.Helper()
		if _, err := l.Append(&Record{Kind: Put, GroupEnd: true, Seq: l.End() + 1}); err != ErrNoEpoch {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, l.CutTo(4))
	refused("after a cut", l)
	l = reopen(t, l.Memory())
	refused("after a restart", l)
	must(t, l.AddEntry(l.Superblock().Table[0]))
	refused("with the old entry again", l)
	if err := l.AddEntry(EpochEntry{1, 5, l.Tail()}); err == nil {
		t.Error("an epoch has two entries")
	}
	enter(t, l, 2)
	put(t, l, "x", 50)

	// An epoch that was stored, but is of another view that never started here.
	l = reopen(t, l.Memory())
	must(t, l.SetEpoch(5))
	must(t, l.AddEntry(EpochEntry{4, l.End() + 1, l.Tail()}))
	refused("entry of an epoch below the stored one", l)
	must(t, l.AddEntry(EpochEntry{5, l.End() + 1, l.Tail()}))
	put(t, l, "y", 50)
	if got, want := l.Superblock().Table, []EpochEntry{{1, 1, 0}, {2, 5, recs(t, l)[4].Off}, {5, 6, recs(t, l)[5].Off}}; !slices.Equal(got, want) {
		t.Errorf("table %+v, want %+v", got, want)
	}
	// An epoch cannot start again further down: its own records would come back.
	if err := l.AddEntry(EpochEntry{5, 4, recs(t, l)[3].Off}); err == nil || l.End() != 6 {
		t.Errorf("epoch 5 starts twice: %v", err)
	}
	// An empty epoch that is replaced leaves a view in which this member could have appended: not again in a lower one.
	must(t, l.SetEpoch(6))
	must(t, l.AddEntry(EpochEntry{6, 7, l.Tail()}))
	if err := l.AddEntry(EpochEntry{5, 7, l.Tail()}); err == nil {
		t.Error("an epoch has two entries")
	}
}

func TestAddEntryRefuses(t *testing.T) {
	l := newLog(t, smallGeometry)
	a := put(t, l, "a", 50)
	put(t, l, "b", 50)
	l.Commit()
	before := l.Superblock()
	for name, e := range map[string]EpochEntry{
		"epoch 0":             {0, 3, l.Tail()},
		"seq 0":               {2, 0, 0},
		"same epoch":          {1, 3, l.Tail()},
		"same epoch, offset":  {1, 1, 8},
		"other offset":        {2, 3, l.Tail() + 8},
		"offset of the first": {2, 3, a.Off},
		"cut, other offset":   {2, 2, a.End() + 8},
		"cut all, not at 0":   {2, 1, 64},
		"above, offset below": {2, 9, l.Tail() - 8},
		"above, unaligned":    {2, 9, l.Tail() + 1},
		"above, outside":      {2, 9, smallGeometry.ArenaSize() + 8},
	} {
		if err := l.AddEntry(e); err == nil {
			t.Errorf("%s: %+v is accepted", name, e)
		} else if !strings.Contains(err.Error(), "a.whale") {
			t.Errorf("%s: %v does not name the file", name, err)
		}
		if !equalSuperblocks(l.Superblock(), before) || l.End() != 2 || l.Control().Durable() != Word(1, 2) {
			t.Fatalf("%s: refused, but changed", name)
		}
	}
}

// A member that comes back with a history of its own takes over the table of the others.
func TestReturningMemberTakesTheOthersTable(t *testing.T) {
	p := newLog(t, smallGeometry)
	var first []Rec
	for i := range 7 {
		first = append(first, put(t, p, keyOf(i), 30))
	}
	b := newLog(t, smallGeometry)
	for _, r := range first {
		receive(t, p, b, r)
	}
	b.Commit()
	// It went on alone in epoch 3, which was never active.
	for i := range 3 {
		b.term = 1
		put(t, b, keyOf(100+i), 30)
	}
	enter(t, b, 3)
	b.Commit()
	// The others dropped seq 7, and had epochs 2 and 4.
	must(t, p.CutTo(6))
	enter(t, p, 2)
	for i := range 3 {
		put(t, p, keyOf(200+i), 30)
	}
	enter(t, p, 4)
	put(t, p, "new", 30)
	p.Commit()

	for _, e := range p.Superblock().Table {
		must(t, b.AddEntry(e))
	}
	if b.End() != 6 || b.Epoch() != 4 || !slices.Equal(b.Superblock().Table, p.Superblock().Table) {
		t.Fatalf("ends at %d, %+v; want 6, %+v", b.End(), b.Superblock(), p.Superblock().Table)
	}
	for _, r := range recs(t, p)[6:] {
		receive(t, p, b, r)
	}
	b.Commit()
	prefixEqual(t, p, b)
	if again := reopen(t, b.Memory()); again.End() != p.End() {
		t.Errorf("recovered to %d, want %d", again.End(), p.End())
	}
}

func TestFullEpochTableMergesTheOldest(t *testing.T) {
	l := newLog(t, smallGeometry)
	for e := uint32(1); e <= MaxEntries+3; e++ {
		if e > 1 {
			enter(t, l, e)
		}
		put(t, l, "k", 1)
	}
	l.Commit()
	s := l.Superblock()
	if len(s.Table) != MaxEntries || !s.Merged || s.Table[0] != (EpochEntry{4, 1, 0}) || s.Table[1].FirstSeq != 5 {
		t.Fatalf("%d entries, merged %v, first %+v, second %+v", len(s.Table), s.Merged, s.Table[0], s.Table[1])
	}
	if again := reopen(t, l.Memory()); again.End() != l.End() {
		t.Errorf("recovered to %d, want %d", again.End(), l.End())
	}
	for _, c := range []struct {
		seq   uint64
		epoch uint32
		want  bool
	}{{1, 1, true}, {4, 4, true}, {4, 1, true}, {1, 5, false}, {5, 5, true}, {5, 4, false}, {6, 5, false}} {
		if got := s.admits(c.seq, c.epoch); got != c.want {
			t.Errorf("seq %d of epoch %d: admitted %v", c.seq, c.epoch, got)
		}
	}
	s.Merged = false
	if s.admits(1, 1) {
		t.Error("an entry that is not merged admits another epoch")
	}
}

func TestEmptyTableMeansEmptyLog(t *testing.T) {
	l := newLog(t, smallGeometry)
	put(t, l, "a", 1)
	l.Commit()
	m := clone(l.Memory())
	s := l.Superblock()
	s.Table = nil
	must(t, writeSuperblock(m, &s))
	broken, err := Open(m, "a.whale", testIdentity)
	must(t, err)
	if _, err := broken.Recover(nil); err == nil || !strings.Contains(err.Error(), "epoch") {
		t.Errorf("a durable record without an epoch: %v", err)
	}
	m.Store64(smallGeometry.Control()+OffDurable, 0)
	r, err := broken.Recover(nil)
	if err != nil || r.End != 0 || r.CutBytes == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
