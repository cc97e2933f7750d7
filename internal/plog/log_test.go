package plog

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"whale/pmem"
)

func TestAppendRefuses(t *testing.T) {
	m := format(t, smallGeometry)
	l, err := Open(m, "a.whale", testIdentity)
	must(t, err)
	r := Record{Kind: Put, GroupEnd: true, Seq: 1, Key: []byte("k")}
	refused := func(name string, want error, l *Log, r Record) {
		t.Helper()
		end, tail := l.End(), l.Tail()
		if _, err := l.Append(&r); err == nil || (want != nil && !errors.Is(err, want)) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if l.End() != end || l.Tail() != tail {
			t.Errorf("%s: refused, but the log has changed", name)
		}
	}
	refused("before Recover", ErrNotRecovered, l, r)
	if err := l.AddEntry(EpochEntry{1, 1, 0}); !errors.Is(err, ErrNotRecovered) {
		t.Errorf("AddEntry before Recover: %v", err)
	}
	if _, err := l.Seek(1); !errors.Is(err, ErrNotRecovered) {
		t.Errorf("Seek before Recover: %v", err)
	}
	if err := l.CutTo(0); !errors.Is(err, ErrNotRecovered) {
		t.Errorf("CutTo before Recover: %v", err)
	}
	if err := l.Extend(Rec{Seq: 1}); !errors.Is(err, ErrNotRecovered) {
		t.Errorf("Extend before Recover: %v", err)
	}
	_, err = l.Recover(nil)
	must(t, err)
	refused("without an epoch", ErrNoEpoch, l, r)
	must(t, l.SetEpoch(1))
	refused("without an entry", ErrNoEpoch, l, r)
	enter(t, l, 2)
	refused("seq 2 first", nil, l, Record{Kind: Put, Seq: 2})
	refused("seq 0", nil, l, Record{Kind: Put})
	refused("no kind", nil, l, Record{Seq: 1})
	refused("unknown kind", nil, l, Record{Kind: 4, Seq: 1})
	refused("flush-all with key", nil, l, Record{Kind: FlushAll, Seq: 1, Key: []byte("k")})
	refused("too large", ErrTooLarge, l, Record{Kind: Put, Seq: 1, Key: []byte("k"), Value: make([]byte, 64<<10-128)})
	put(t, l, "k", 64<<10-128-1) // the largest
	must(t, l.SetEpoch(3))
	refused("fenced: the new epoch has no entry", ErrNoEpoch, l, Record{Kind: Put, Seq: 2})
	if err := l.SetEpoch(2); err == nil {
		t.Error("the epoch went back")
	}
}

func TestFullFreeAndReserve(t *testing.T) {
	g := smallGeometry // 4 segments of 64 KiB; one is the reserve
	l := newLog(t, g)
	const value = 10000
	size := RecordSize(len("key-10"), value)
	perSegment := int(g.MaxRecord() / pad(size))
	if l.Free() != g.ArenaSize() {
		t.Errorf("free: %d of %d", l.Free(), g.ArenaSize())
	}
	for range perSegment * 3 {
		if !l.Fits([]uint64{size}, false) {
			t.Fatalf("seq %d does not fit outside the reserve, %d bytes free", l.End()+1, l.Free())
		}
		put(t, l, "key-10", value)
	}
	if l.Fits([]uint64{size}, false) {
		t.Error("the reserve is given away")
	}
	// A group fits as a whole: what is left at the end of a segment counts for nothing.
	rest := make([]uint64, perSegment)
	for i := range rest {
		rest[i] = size
	}
	if !l.Fits(rest, true) {
		t.Errorf("%d records do not fit into the reserve, %d bytes free", len(rest), l.Free())
	}
	if l.Fits(append(rest, size), true) {
		t.Error("more fits than there is")
	}
	if l.Fits([]uint64{g.MaxRecord() + 1}, true) {
		t.Error("a record larger than a segment fits")
	}
	for range perSegment {
		put(t, l, "key-10", value)
	}
	free := l.Free()
	if _, err := l.Append(&Record{Kind: Put, GroupEnd: true, Seq: l.End() + 1, Key: []byte("key-10"), Value: make([]byte, value)}); !errors.Is(err, ErrFull) {
		t.Errorf("a full arena: %v", err)
	}
	if l.Free() != free {
		t.Error("refused, but took space")
	}
	put(t, l, "key-10", int(free)-RecordHeaderSize-len("key-10")-2) // the rest, but for two bytes of padding
	if l.Free() != 0 || l.Fits([]uint64{RecordHeaderSize}, true) {
		t.Errorf("%d bytes free", l.Free())
	}
	if _, err := l.Append(&Record{Kind: Tombstone, GroupEnd: true, Seq: l.End() + 1}); !errors.Is(err, ErrFull) {
		t.Errorf("an arena without a byte: %v", err)
	}
	l.Commit()
	again := reopen(t, l.Memory())
	if again.End() != l.End() || again.Tail() != l.Tail() {
		t.Errorf("a full arena recovers to seq %d, offset %d, want %d, %d", again.End(), again.Tail(), l.End(), l.Tail())
	}
	must(t, again.CutTo(again.End()-1))
	enter(t, again, 2)
	put(t, again, "z", 100)
}

// A record that does not fit opens the next segment; one that fits to the byte does not.
func TestSegmentChange(t *testing.T) {
	l := newLog(t, smallGeometry)
	seg := smallGeometry.SegmentSize
	a := put(t, l, "a", int(seg)-64-64-1-64-1) // leaves 64 bytes
	if l.Tail() != seg-64 {
		t.Fatalf("tail %d", l.Tail())
	}
	if b := put(t, l, "", 0); b.Off != seg-64 || l.Tail() != seg {
		t.Errorf("a record that fits exactly is at %d, tail %d", b.Off, l.Tail())
	}
	c := put(t, l, "c", 1)
	if off, n := l.g.Span(c); c.Off != seg+64 || off != seg || n != 64+72 {
		t.Errorf("after a full segment: record at %d, span %d, %d", c.Off, off, n)
	}
	put(t, l, "d", int(seg)-64-72-64-1-56) // leaves 56 bytes: no record fits
	if l.Tail() != 2*seg-56 {
		t.Fatalf("tail %d", l.Tail())
	}
	if e := put(t, l, "", 0); e.Off != 2*seg+64 {
		t.Errorf("a record that does not fit is at %d", e.Off)
	}
	if !l.Verify(a) || !l.Verify(c) {
		t.Error("first records do not verify")
	}
	l.Commit()
	if again := reopen(t, l.Memory()); again.End() != 5 || again.Tail() != l.Tail() {
		t.Errorf("recovered to seq %d, tail %d", again.End(), again.Tail())
	}
}

// Verify says yes to exactly one Rec.
func TestVerifyIsExact(t *testing.T) {
	l := newLog(t, smallGeometry)
	first := put(t, l, "a", 5)
	second := appendRecord(t, l, &Record{Kind: Tombstone, Key: []byte("bcd")})
	third := appendRecord(t, l, &Record{Kind: FlushAll, GroupEnd: true})
	size := uint64(len(l.arena))
	for _, r := range []Rec{first, second, third} {
		if !l.Verify(r) {
			t.Fatalf("%+v does not verify", r)
		}
		if direct := r; true {
			direct.Flags |= Direct
			if !l.Verify(direct) {
				t.Errorf("%+v does not verify: Direct is of the slot", direct)
			}
		}
		for name, change := range map[string]func(r *Rec){
			"seq":             func(r *Rec) { r.Seq++ },
			"hash":            func(r *Rec) { r.Hash++ },
			"len + 1":         func(r *Rec) { r.Len++ },
			"len 0":           func(r *Rec) { r.Len = 0 },
			"len max":         func(r *Rec) { r.Len = 1<<32 - 1 },
			"sum":             func(r *Rec) { r.Sum ^= 1 },
			"kind":            func(r *Rec) { r.Flags ^= 3 },
			"group end":       func(r *Rec) { r.Flags ^= GroupEnd },
			"unknown flag":    func(r *Rec) { r.Flags |= 1 << 20 },
			"off + 8":         func(r *Rec) { r.Off += 8 },
			"off + 1":         func(r *Rec) { r.Off++ },
			"off 0":           func(r *Rec) { r.Off = 0 },
			"off header":      func(r *Rec) { r.Off = smallGeometry.SegmentSize + 8 },
			"off end":         func(r *Rec) { r.Off = size },
			"off last word":   func(r *Rec) { r.Off = size - 8 },
			"off huge":        func(r *Rec) { r.Off = 1<<64 - 8 },
			"off in next lap": func(r *Rec) { r.Off += size },
		} {
			bad := r
			change(&bad)
			if l.Verify(bad) {
				t.Errorf("%s: %+v verifies, the record is %+v", name, bad, r)
			}
		}
	}
	// Every bit of the bytes that replicate a record counts: header of the segment, record, padding.
	off, n := l.g.Span(first)
	for bit := off * 8; bit < (off+n)*8; bit++ {
		l.arena[bit/8] ^= 1 << (bit % 8)
		if l.Verify(first) {
			t.Errorf("bit %d of byte %d flipped: verifies", bit%8, bit/8)
		}
		l.arena[bit/8] ^= 1 << (bit % 8)
	}
	// Bytes with a right checksum that no Append writes, and that recovery would cut off.
	for at, x := range map[int]byte{recKind: 7, recMarks: 2, recSpare: 1, recSpare2: 1} {
		b := l.arena[first.Off:]
		b[at] ^= x
		putCRC(b, 0, 4, int(first.Len))
		odd := first
		odd.Sum, odd.Flags = le.Uint32(b), Flags(b[recKind])|GroupEnd
		if l.Verify(odd) {
			t.Errorf("byte %d of an unknown format: verifies", at)
		}
		b[at] ^= x
		putCRC(b, 0, 4, int(first.Len))
	}
	// A segment header with a right checksum, but of another segment, generation, epoch or seq.
	for at := range []int{segNumber, segGeneration, segEpoch, segFirstSeq} {
		l.arena[at] ^= 1
		putCRC(l.arena, 60, 0, 60)
		if l.Verify(first) {
			t.Errorf("segment header byte %d changed: verifies", at)
		}
		l.arena[at] ^= 1
		putCRC(l.arena, 60, 0, 60)
	}
}

func TestRecordAndPeekBounds(t *testing.T) {
	l := newLog(t, smallGeometry)
	rec := put(t, l, "a", 5)
	if r, n, err := l.Record(rec.Off); err != nil || n != int(rec.Len) || string(r.Key) != "a" {
		t.Errorf("%+v %d %v", r, n, err)
	}
	if r, ok := l.Peek(rec.Off); !ok || string(r.Key) != "a" {
		t.Errorf("%+v %v", r, ok)
	}
	size := uint64(len(l.arena))
	for _, off := range []uint64{0, 8, 65, 56, size, size - 8, size - 56, size + 64, 1<<64 - 8, smallGeometry.SegmentSize, smallGeometry.SegmentSize - 56} {
		if _, _, err := l.Record(off); err == nil {
			t.Errorf("a record at %d", off)
		}
		if _, ok := l.Peek(off); ok {
			t.Errorf("peeked a record at %d", off)
		}
	}
	if _, _, err := l.Record(rec.End()); err == nil {
		t.Error("a record behind the end")
	}
}

// Extend holds a backup to the places, seqs and epochs that P's log has.
func TestExtendRefuses(t *testing.T) {
	p, b := newLog(t, smallGeometry), newLog(t, smallGeometry)
	one, two := put(t, p, "a", 100), put(t, p, "b", 100)
	big := put(t, p, "c", 65200)
	send(p, b, one)
	send(p, b, two)
	send(p, b, big)
	refused := func(name string, r Rec) {
		t.Helper()
		end, tail := b.End(), b.Tail()
		if err := b.Extend(r); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if b.End() != end || b.Tail() != tail {
			t.Errorf("%s: refused, but the log has changed", name)
		}
	}
	refused("seq 2 first", two)
	must(t, b.Extend(one))
	refused("seq 1 again", one)
	for name, off := range map[string]uint64{"a hole": two.Off + 8, "overlap": two.Off - 8, "next segment": smallGeometry.SegmentSize + 64, "outside": 1 << 63} {
		moved := two
		moved.Off = off
		refused(name, moved)
	}
	long := two
	long.Len = uint32(smallGeometry.SegmentSize)
	refused("longer than a segment", long)
	short := two
	short.Len = 8
	refused("shorter than a header", short)
	must(t, b.Extend(two))
	early := big
	early.Off = two.End()
	refused("in the rest, where it does not fit", early)
	must(t, b.Extend(big))
	prefixEqual(t, p, b)

	// Of an epoch that the table does not give.
	enter(t, p, 2)
	other := put(t, p, "d", 1)
	send(p, b, other)
	refused("epoch 2 without an entry", other)
	must(t, b.AddEntry(EpochEntry{2, 4, b.Tail()}))
	must(t, b.Extend(other))

	// A lagging member knows where an epoch starts before it gets there.
	lag := newLog(t, smallGeometry)
	entry := EpochEntry{2, 4, p.Tail()} // a lie: the tail was elsewhere
	must(t, lag.AddEntry(entry))
	for _, r := range []Rec{one, two, big} {
		receive(t, p, lag, r)
	}
	send(p, lag, other)
	if err := lag.Extend(other); err == nil || !strings.Contains(err.Error(), "differ") {
		t.Errorf("an epoch that starts elsewhere: %v", err)
	}
}

func TestSeekAndIterate(t *testing.T) {
	l := newLog(t, smallGeometry)
	for i := range 60 {
		put(t, l, keyOf(i), (i*997)%4000)
	}
	all := recs(t, l)
	if len(all) != 60 {
		t.Fatalf("%d records", len(all))
	}
	for seq := uint64(1); seq <= 61; seq++ {
		it, err := l.Seek(seq)
		must(t, err)
		for want := seq; want <= 60; want++ {
			rec, r, ok := it.Next()
			if !ok || rec != all[want-1] || r.Seq != want || !l.Verify(rec) || string(r.Key) != keyOf(int(want)-1) {
				t.Fatalf("from %d: seq %d is %+v %+v %v", seq, want, rec, r, ok)
			}
		}
		if _, _, ok := it.Next(); ok {
			t.Fatal("a record behind the end")
		}
	}
	it, err := l.Seek(61)
	must(t, err)
	big := put(t, l, "later", 50000) // opens a segment
	if rec, _, ok := it.Next(); !ok || rec != big {
		t.Errorf("an iterator at the end does not see what comes later: %+v %v", rec, ok)
	}
	for _, seq := range []uint64{0, 63, 1 << 60} {
		if _, err := l.Seek(seq); err == nil {
			t.Errorf("seek to %d", seq)
		}
	}
	// Overwritten behind the log's back: an error and no endless loop.
	clear(l.arena[:1000])
	if _, err := l.Seek(3); err == nil {
		t.Error("seek in zeros")
	}
}

func TestCommitStoresTheDurableEnd(t *testing.T) {
	l := newLog(t, smallGeometry)
	put(t, l, "a", 1)
	if w := l.Control().Durable(); w != Word(0, 0) && w != Word(1, 0) {
		t.Errorf("durable before Commit: %x", w)
	}
	l.Commit()
	if w := l.Control().Durable(); w != Word(1, 1) {
		t.Errorf("durable end %x", w)
	}
	enter(t, l, 2)
	l.Commit()
	if w := l.Control().Durable(); w != Word(2, 1) {
		t.Errorf("durable end after a view change %x", w)
	}
}

// The next segment is prefaulted when one is opened, and never on the caller's goroutine.
func TestNextSegmentIsPrefaulted(t *testing.T) {
	m := &prefaultMemory{HeapMemory: format(t, smallGeometry), release: make(chan struct{})}
	l := reopen(t, m)
	enter(t, l, 1)
	put(t, l, "a", 10)
	put(t, l, "b", 65400) // the goroutines still hang: Append does not wait for them
	close(m.release)
	if err := l.Close(); err != errPrefault {
		t.Errorf("Close: %v", err)
	}
	a, seg := smallGeometry.Arena(), smallGeometry.SegmentSize
	for _, want := range []pages{{a, 2 * seg}, {a + seg, seg}, {a + 2*seg, seg}} {
		if !m.calls[want] {
			t.Errorf("[%d, +%d) was not prefaulted; was: %v", want.off, want.n, m.calls)
		}
	}
	if len(m.calls) != 3 {
		t.Errorf("prefaulted: %v", m.calls)
	}
}

var errPrefault = errors.New("no space")

type pages struct{ off, n uint64 }

type prefaultMemory struct {
	*pmem.HeapMemory
	release chan struct{}
	mu      sync.Mutex
	calls   map[pages]bool
}

func (m *prefaultMemory) Prefault(off, n uint64) error {
	<-m.release
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls == nil {
		m.calls = map[pages]bool{}
	}
	m.calls[pages{off, n}] = true
	return errPrefault
}

// Readers on other goroutines, who learn of a record by an atomic word, read while the owner appends.
func TestReadersBesideTheOwner(t *testing.T) {
	l := newLog(t, smallGeometry)
	var published atomic.Pointer[Rec]
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				if rec := published.Load(); rec != nil {
					r, _, err := l.Record(rec.Off)
					if err != nil || r.Seq != rec.Seq || !l.Verify(*rec) {
						t.Errorf("seq %d: %+v %v", rec.Seq, r, err)
						return
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 800 {
		rec := put(t, l, keyOf(i), i%300)
		published.Store(&rec)
		l.Commit()
	}
	close(done)
	wg.Wait()
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	g := Geometry{RingSlots: 64, SegmentSize: 1 << 20, Segments: 4}
	p, b := newLog(t, g), newLog(t, g)
	r := Record{Kind: Put, GroupEnd: true, Key: []byte("key"), Value: make([]byte, 64)}
	sizes := []uint64{131, 131}
	if n := testing.AllocsPerRun(1000, func() {
		r.Seq = p.End() + 1
		if !p.Fits(sizes, false) {
			t.Fatal("full")
		}
		rec, err := p.Append(&r)
		if err != nil {
			t.Fatal(err)
		}
		p.Commit()
		send(p, b, rec)
		if !b.Verify(rec) || b.Extend(rec) != nil {
			t.Fatal("not extended")
		}
		b.Commit()
		if _, _, err := b.Record(rec.Off); err != nil {
			t.Fatal(err)
		}
		b.Peek(rec.Off)
		missing := rec
		missing.Seq++
		b.Verify(missing)
		it, err := b.Seek(rec.Seq)
		if _, _, ok := it.Next(); !ok || err != nil {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
