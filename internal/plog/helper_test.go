package plog

import (
	"bytes"
	"fmt"
	"testing"

	"whale/pmem"
)

var (
	smallGeometry = Geometry{RingSlots: 64, SegmentSize: 64 << 10, Segments: 4}
	testIdentity  = Identity{Shard: 3, Member: 1}
)

// reporter is what testing.T and rapid.T have in common.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// format is a formatted heap memory.
func format(t reporter, g Geometry) *pmem.HeapMemory {
	t.Helper()
	m := pmem.Heap(g.Size())
	must(t, Format(m, g, testIdentity))
	return m
}

func must(t reporter, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// reopen is a new run of the process on the same memory.
func reopen(t reporter, m pmem.Memory) *Log {
	t.Helper()
	l, err := Open(m, "a.whale", testIdentity)
	must(t, err)
	_, err = l.Recover(nil)
	must(t, err)
	return l
}

// newLog is an empty log in which epoch 1 may append.
func newLog(t reporter, g Geometry) *Log {
	t.Helper()
	l := reopen(t, format(t, g))
	enter(t, l, 1)
	return l
}

// enter starts an epoch at the log's end.
func enter(t reporter, l *Log, epoch uint32) EpochEntry {
	t.Helper()
	e := EpochEntry{Epoch: epoch, FirstSeq: l.End() + 1, FirstOff: l.Tail()}
	must(t, l.SetEpoch(epoch))
	must(t, l.AddEntry(e))
	return e
}

// put appends a record with a value of that many bytes, a group of its own.
func put(t reporter, l *Log, key string, size int) Rec {
	t.Helper()
	return appendRecord(t, l, &Record{Kind: Put, GroupEnd: true, Key: []byte(key), Value: pattern(key, size)})
}

func appendRecord(t reporter, l *Log, r *Record) Rec {
	t.Helper()
	r.Seq = l.End() + 1
	rec, err := l.Append(r)
	must(t, err)
	return rec
}

// pattern is a value that differs from key to key and has no zero bytes.
func pattern(key string, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7+int(HashKey([]byte(key))%97)) | 1
	}
	return b
}

// send copies the bytes of r to another member, as the fabric does.
func send(from, to *Log, r Rec) {
	off, n := from.g.Span(r)
	copy(to.arena[off:off+n], from.arena[off:off+n])
}

// receive sends r and has the other member take it.
func receive(t reporter, from, to *Log, r Rec) {
	t.Helper()
	send(from, to, r)
	if !to.Verify(r) {
		t.Fatalf("seq %d does not verify after it was copied", r.Seq)
	}
	must(t, to.Extend(r))
}

// recs is every record of the log, by walking.
func recs(t reporter, l *Log) []Rec {
	t.Helper()
	it, err := l.Seek(1)
	must(t, err)
	var all []Rec
	for {
		r, _, ok := it.Next()
		if !ok {
			return all
		}
		all = append(all, r)
	}
}

// prefixEqual is the invariant of that name: same bytes up to the smaller end.
func prefixEqual(t reporter, a, b *Log) {
	t.Helper()
	n := min(a.Tail(), b.Tail())
	for i := range n {
		if a.arena[i] != b.arena[i] {
			t.Fatalf("PrefixEqual: the arenas differ at offset %d of %d: %02x and %02x", i, n, a.arena[i], b.arena[i])
		}
	}
}

func clone(m pmem.Memory) *pmem.HeapMemory {
	c := pmem.Heap(uint64(len(m.Bytes())))
	copy(c.Bytes(), m.Bytes())
	return c
}

func equalRecords(a, b Record) bool {
	return a.Kind == b.Kind && a.GroupEnd == b.GroupEnd && a.Epoch == b.Epoch && a.Seq == b.Seq && a.Prev == b.Prev &&
		a.Deadline == b.Deadline && a.Client == b.Client && a.Request == b.Request &&
		bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

func keyOf(i int) string { return fmt.Sprintf("key-%d", i) }

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}

// skipUnderRace is for long tests of one goroutine, in which the race detector has nothing to find.
func skipUnderRace(t *testing.T) {
	t.Helper()
	if underRace {
		t.Skip("one goroutine")
	}
}
