package plog

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"whale/pmem"
)

// damaged is a log of three segments with some records in each, all but the last two durable.
//
//	segment 0: seqs 1, 2, a rest too small for 3
//	segment 1: seqs 3, 4, filled to 56 bytes of the end
//	segment 2: seqs 5, 6 (durable), 7, 8 (not)
func damaged(t *testing.T) (*Log, []Rec) {
	t.Helper()
	l := newLog(t, smallGeometry)
	put(t, l, "one", 1000)
	put(t, l, "two", 30000)
	three := put(t, l, "three", 40001)
	put(t, l, "four", int(2*smallGeometry.SegmentSize-56-three.End())-RecordHeaderSize-len("four"))
	put(t, l, "five", 77)
	put(t, l, "six", 100)
	l.Commit()
	put(t, l, "seven", 3)
	put(t, l, "eight", 5000)
	all := recs(t, l)
	if all[2].Off != smallGeometry.SegmentSize+64 || all[4].Off != 2*smallGeometry.SegmentSize+64 {
		t.Fatalf("the test is void: %+v", all)
	}
	return l, all
}

// Damage at or below the durable end is an error with the file, the place and both checksums, wherever a bit has flipped.
func TestDamageBelowTheDurableEnd(t *testing.T) {
	l, all := damaged(t)
	seg, arena := smallGeometry.SegmentSize, smallGeometry.Arena()
	for _, c := range []struct {
		name       string
		flip       uint64 // arena offset of the byte
		seq, where uint64 // what the error must say
		sumAt      uint64 // where the checksum is stored
	}{
		{"checksum of the first record", all[0].Off + 1, 1, all[0].Off, all[0].Off},
		{"kind", all[1].Off + 4, 2, all[1].Off, all[1].Off},
		{"seq", all[1].Off + 8, 2, all[1].Off, all[1].Off},
		{"epoch", all[3].Off + 16, 4, all[3].Off, all[3].Off},
		{"key length", all[3].Off + 20, 4, all[3].Off, all[3].Off},
		{"key length, huge", all[3].Off + 23, 4, all[3].Off, all[3].Off},
		{"value length, huge", all[1].Off + 27, 2, all[1].Off, all[1].Off},
		{"key", all[5].Off + 64, 6, all[5].Off, all[5].Off},
		{"last byte of a value", all[5].Off + uint64(all[5].Len) - 1, 6, all[5].Off, all[5].Off},
		{"padding", all[5].Off + uint64(all[5].Len), 6, all[5].Off, all[5].Off},
		{"first record of a segment", all[2].Off + 9000, 3, all[2].Off, all[2].Off},
		{"first record of a segment, header", all[2].Off + 8, 3, all[2].Off, all[2].Off},
		{"first segment's header", 24, 1, 0, 60},
		{"segment header, magic", seg, 3, seg, seg + 60},
		{"segment header, number", seg + 4, 3, seg, seg + 60},
		{"segment header, generation", seg + 8, 3, seg, seg + 60},
		{"segment header, epoch", seg + 16, 3, seg, seg + 60},
		{"segment header, first seq", seg + 24, 3, seg, seg + 60},
		{"segment header, spare", seg + 40, 3, seg, seg + 60},
		{"segment header, checksum", seg + 60, 3, seg, seg + 60},
		{"segment header behind a full segment", 2*seg + 24, 5, 2 * seg, 2*seg + 60},
	} {
		m := clone(l.Memory())
		m.Bytes()[arena+c.flip] ^= 0x40
		before := slices.Clone(m.Bytes())
		broken, err := Open(m, "dir/a.whale", testIdentity)
		must(t, err)
		_, err = broken.Recover(nil)
		var e *DamageError
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if e.File != "dir/a.whale" || e.Offset != arena+c.where || e.Seq != c.seq || e.Durable != 6 || e.Want != le.Uint32(before[arena+c.sumAt:]) {
			t.Errorf("%s: %+v, want seq %d at offset %d", c.name, *e, c.seq, arena+c.where)
		}
		if (e.Want == e.Got) != (c.name == "padding") {
			t.Errorf("%s: checksums stored %08x, computed %08x", c.name, e.Want, e.Got)
		}
		if !slices.Equal(before, m.Bytes()) {
			t.Errorf("%s: the evidence was changed", c.name)
		}
		if broken.End() != 0 {
			t.Errorf("%s: damaged, but ends at %d", c.name, broken.End())
		}
		if err := broken.CutTo(0); !errors.Is(err, ErrNotRecovered) {
			t.Errorf("%s: a damaged log can be changed: %v", c.name, err)
		}
	}
}

// A record or a segment header that is gone altogether is damage too.
func TestLossBelowTheDurableEnd(t *testing.T) {
	l, all := damaged(t)
	for name, c := range map[string]struct {
		from, to   uint64 // arena
		seq, where uint64
	}{
		"record":                 {all[1].Off, all[1].End(), 2, all[1].Off},
		"the rest of a segment":  {all[1].Off, smallGeometry.SegmentSize, 2, all[1].Off},
		"record behind a header": {all[2].Off, all[2].Off + 64, 3, all[2].Off},
		"segment, full before":   {2 * smallGeometry.SegmentSize, 3 * smallGeometry.SegmentSize, 5, 2 * smallGeometry.SegmentSize},
		"everything":             {0, smallGeometry.ArenaSize(), 1, 0},
	} {
		m := clone(l.Memory())
		clear(m.Bytes()[smallGeometry.Arena()+c.from : smallGeometry.Arena()+c.to])
		broken, err := Open(m, "a.whale", testIdentity)
		must(t, err)
		_, err = broken.Recover(nil)
		var e *DamageError
		if !errors.As(err, &e) || e.Seq != c.seq || e.Offset != smallGeometry.Arena()+c.where {
			t.Errorf("%s: %v; want seq %d at %d", name, err, c.seq, smallGeometry.Arena()+c.where)
		}
	}
	// A durable end that the arena cannot reach.
	m := clone(l.Memory())
	m.Store64(smallGeometry.Control()+OffDurable, 1<<48-1)
	broken, err := Open(m, "a.whale", testIdentity)
	must(t, err)
	var e *DamageError
	if _, err = broken.Recover(nil); !errors.As(err, &e) || e.Seq != 9 || e.Durable != 1<<48-1 {
		t.Errorf("durable end beyond everything: %v", err)
	}
}

// Damage above the durable end is cut off, reported, and stays cut.
func TestDamageAboveTheDurableEnd(t *testing.T) {
	l, all := damaged(t)
	arena := smallGeometry.Arena()
	for _, c := range []struct {
		name string
		flip uint64
		end  uint64
	}{
		{"seq 7", all[6].Off + 10, 6},
		{"seq 8, header", all[7].Off, 7},
		{"seq 8, value", all[7].Off + 4000, 7},
		{"seq 8, length", all[7].Off + 27, 7},
	} {
		m := clone(l.Memory())
		m.Bytes()[arena+c.flip] ^= 0x40
		broken, err := Open(m, "a.whale", testIdentity)
		must(t, err)
		r, err := broken.Recover(nil)
		must(t, err)
		if r.End != c.end || broken.End() != c.end || r.Records != c.end || r.Durable != 6 || r.CutBytes == 0 ||
			r.CutOffset != arena+all[c.end].Off || r.CutReason == "" || r.CutRecords != 0 {
			t.Errorf("%s: %+v", c.name, r)
		}
		if got := broken.Control().Durable(); got != Word(1, c.end) {
			t.Errorf("%s: durable end %x", c.name, got)
		}
		m.Bytes()[arena+c.flip] ^= 0x40 // the right byte arrives late
		if again := reopen(t, m); again.End() != c.end {
			t.Errorf("%s: cut to %d, and back at %d", c.name, c.end, again.End())
		}
	}
	// The header of a segment that only holds what is not durable.
	l = newLog(t, smallGeometry)
	put(t, l, "a", 10)
	l.Commit()
	put(t, l, "b", 65400)
	m := l.Memory()
	m.Bytes()[arena+smallGeometry.SegmentSize+24] ^= 1
	broken, err := Open(m, "a.whale", testIdentity)
	must(t, err)
	r, err := broken.Recover(nil)
	if err != nil || r.End != 1 || r.CutOffset != arena+smallGeometry.SegmentSize {
		t.Errorf("%+v, %v", r, err)
	}
	// Nothing to cut.
	broken, err = Open(m, "a.whale", testIdentity)
	must(t, err)
	if r, err := broken.Recover(nil); err != nil || r.CutBytes != 0 || r.CutOffset != 0 || r.CutReason != "" || r.Bytes != broken.Tail() {
		t.Errorf("a clean log: %+v, %v", r, err)
	}
}

// A group without its end is cut whole, whatever the durable end says: a backup may have had half of it.
func TestTornGroupIsCutWhole(t *testing.T) {
	for durable := uint64(0); durable <= 5; durable++ {
		l := newLog(t, smallGeometry)
		for i := range 5 {
			appendRecord(t, l, &Record{Kind: Put, GroupEnd: i == 1, Key: []byte(keyOf(i))})
			if l.End() == durable {
				l.Commit()
			}
		}
		third := recs(t, l)[2]
		again, err := Open(l.Memory(), "a.whale", testIdentity)
		must(t, err)
		var visited []uint64
		r, err := again.Recover(func(r Record, rec Rec) {
			if !again.Verify(rec) || r.Seq != rec.Seq {
				t.Errorf("visited %+v, %+v", r, rec)
			}
			visited = append(visited, r.Seq)
		})
		must(t, err)
		if r.End != 2 || r.CutRecords != 3 || r.CutOffset != smallGeometry.Arena()+third.Off || r.Durable != durable || !slices.Equal(visited, []uint64{1, 2}) {
			t.Errorf("durable %d: %+v, visited %v", durable, r, visited)
		}
		if w := again.Control().Durable(); w != Word(1, 2) {
			t.Errorf("durable %d: the durable end is %x after recovery", durable, w)
		}
		if twice := reopen(t, l.Memory()); twice.End() != 2 {
			t.Errorf("durable %d: recovered to %d the second time", durable, twice.End())
		}
	}
}

// Groups are visited whole and in order, over segments too.
func TestVisitInOrder(t *testing.T) {
	l := newLog(t, smallGeometry)
	dice := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		appendRecord(t, l, &Record{Kind: Put, GroupEnd: dice.IntN(4) == 0, Key: []byte("k"), Value: make([]byte, dice.IntN(900))})
	}
	appendRecord(t, l, &Record{Kind: FlushAll, GroupEnd: true})
	want := recs(t, l)
	again, err := Open(l.Memory(), "a.whale", testIdentity)
	must(t, err)
	var got []Rec
	_, err = again.Recover(func(r Record, rec Rec) { got = append(got, rec) })
	must(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("visited %d records, appended %d, or others", len(got), len(want))
	}
}

// What a peer wrote above the end, and was never extended, is recovered if it is whole; and made durable, for the durable
// end then covers it.
func TestRecoverMakesDurableWhatItFinds(t *testing.T) {
	m := pmem.Simulate(smallGeometry.Size(), pmem.ADR, 1)
	must(t, Format(m, smallGeometry, testIdentity))
	l := reopen(t, m)
	enter(t, l, 1)
	put(t, l, "a", 100)
	l.Commit()
	put(t, l, "b", 65400)
	put(t, l, "c", 100)
	l = reopen(t, m.ProcessCrash())
	if l.End() != 3 {
		t.Fatalf("ends at %d", l.End())
	}
	l.Memory().Fence() // for the durable end itself
	if power := reopen(t, l.Memory().(*pmem.Simulated).CrashDurable()); power.End() != 3 || power.Control().Durable() != Word(1, 3) {
		t.Errorf("after a loss of power: ends at %d, durable %x", power.End(), power.Control().Durable())
	}
}

// The rest of a segment that was left is zero on every member, whatever was dropped there, at once and after a crash.
func TestRestOfASegmentIsZero(t *testing.T) {
	m := pmem.Simulate(smallGeometry.Size(), pmem.ADR, 1)
	must(t, Format(m, smallGeometry, testIdentity))
	l := reopen(t, m)
	enter(t, l, 1)
	put(t, l, "a", 100)
	put(t, l, "dropped", 20000)
	l.Commit()
	must(t, l.CutTo(1))
	enter(t, l, 2)
	left := l.Tail()
	put(t, l, "b", 65400)
	l.Commit()
	end := smallGeometry.SegmentSize
	if !allZero(l.arena[left:end]) {
		t.Error("the rest is not zero")
	}
	crashed := m.CrashDurable()
	a := smallGeometry.Arena()
	if !allZero(crashed.Bytes()[a+left : a+end]) {
		t.Error("the zeros are not durable")
	}
	// A crash before that, which kept the record and lost the zeros.
	crashed.Bytes()[a+end-100] = 1
	if l = reopen(t, crashed); l.End() != 2 || !allZero(l.arena[left:end]) {
		t.Errorf("after recovery: ends at %d", l.End())
	}
}

// A record that opens a segment although it would have fitted before is in a place that no Append chooses.
func TestRecoverKeepsThePlaceRule(t *testing.T) {
	l := newLog(t, smallGeometry)
	put(t, l, "a", 100)
	l.tail = smallGeometry.SegmentSize
	put(t, l, "b", 100)
	if again := reopen(t, l.Memory()); again.End() != 1 {
		t.Errorf("recovered to %d", again.End())
	}
}

// FuzzRecover gives recovery an arena full of edits with right and wrong checksums: it must not panic, and what it
// keeps must be records of the right seqs, checksums and epochs in the only places possible.
func FuzzRecover(f *testing.F) {
	base := newLog(f, smallGeometry)
	for i := range 12 {
		if i == 5 {
			base.Commit()
			enter(f, base, 2)
		}
		appendRecord(f, base, &Record{Kind: Put, GroupEnd: i%3 == 0, Key: []byte(keyOf(i)), Value: pattern(keyOf(i), (i*7919)%22000)})
	}
	image := base.Memory().Bytes()
	all := recs(f, base)
	f.Add([]byte{}, uint64(5))
	f.Add([]byte{0, 0, 1, 0}, uint64(0))
	f.Add([]byte{3, 8, 1, 1, 4, 16, 2, 1}, uint64(0))
	f.Add([]byte{11, 27, 0xff, 1, 2, 20, 0xff, 0}, uint64(3))
	f.Add([]byte{0x85, 24, 1, 1, 0x85, 4, 1, 0}, uint64(12))
	f.Add([]byte{0x83, 16, 3, 1}, uint64(0))
	f.Add([]byte{0x8b, 16, 3, 1}, uint64(0))
	// Four bytes an edit: which record (top bit: the header of its segment), byte in it, what to xor, whether to mend
	// the checksum.
	f.Fuzz(func(t *testing.T, edits []byte, durable uint64) {
		m := pmem.Heap(smallGeometry.Size())
		copy(m.Bytes(), image)
		arena := m.Bytes()[smallGeometry.Arena():]
		for ; len(edits) >= 4; edits = edits[4:] {
			rec := all[int(edits[0]&0x7f)%len(all)]
			if edits[0]&0x80 != 0 {
				h := arena[rec.Off&^(smallGeometry.SegmentSize-1):]
				h[edits[1]%64] ^= edits[2]
				if edits[3]&1 != 0 {
					putCRC(h, 60, 0, 60)
				}
				continue
			}
			b := arena[rec.Off:]
			b[int(edits[1])%int(rec.Len)] ^= edits[2]
			if _, n, ok := PeekRecord(b[:smallGeometry.SegmentSize-rec.Off%smallGeometry.SegmentSize]); ok && edits[3]&1 != 0 {
				putCRC(b, 0, 4, n)
			}
		}
		m.Store64(smallGeometry.Control()+OffDurable, durable)
		l, err := Open(m, "a.whale", testIdentity)
		must(t, err)
		r, err := l.Recover(nil)
		_, durable = SplitWord(durable)
		if err != nil {
			var e *DamageError
			if !errors.As(err, &e) || e.Seq > durable || e.Seq == 0 || e.Offset < smallGeometry.Arena() || e.Offset > smallGeometry.Size() {
				t.Fatalf("durable %d: %v", durable, err)
			}
			return
		}
		tail := uint64(0)
		for i, rec := range recs(t, l) {
			got, n, err := l.Record(rec.Off)
			must(t, err)
			off, _ := l.g.place(tail, uint64(rec.Len))
			wantEpoch := uint32(1)
			if i >= 5 {
				wantEpoch = 2
			}
			if got.Seq != uint64(i)+1 || n != int(rec.Len) || off != rec.Off || !l.Verify(rec) || got.Epoch != wantEpoch {
				t.Fatalf("kept %+v, %+v behind %d", rec, got, tail)
			}
			tail = rec.End()
		}
		if r.End != l.End() || tail != l.Tail() || (r.End < durable && r.CutRecords == 0) {
			t.Fatalf("%+v, tail %d, want %d", r, l.Tail(), tail)
		}
		if again := reopen(t, m); again.End() != r.End {
			t.Fatalf("the second recovery ends at %d, the first at %d", again.End(), r.End)
		}
	})
}

// Whatever bytes a memory holds, Open and Recover neither panic nor hang.
func FuzzOpenAnything(f *testing.F) {
	l := newLog(f, smallGeometry)
	put(f, l, "a", 10)
	l.Commit()
	f.Add(l.Memory().Bytes()[:1024], l.arena[:256], uint64(1))
	f.Add([]byte{}, []byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, super, arena []byte, durable uint64) {
		m := pmem.Heap(smallGeometry.Size())
		copy(m.Bytes()[:copySize], super)
		putCRC(m.Bytes(), sbCheck, 0, sbCheck)
		copy(m.Bytes()[smallGeometry.Arena():], arena)
		m.Store64(smallGeometry.Control()+OffDurable, durable)
		l, err := Open(m, "a.whale", Identity{le.Uint32(m.Bytes()[sbShard:]), le.Uint32(m.Bytes()[sbMember:])})
		if err != nil {
			return
		}
		if r, err := l.Recover(nil); err == nil && len(recs(t, l)) != int(r.End) {
			t.Fatalf("%+v, but %d records", r, len(recs(t, l)))
		}
	})
}
