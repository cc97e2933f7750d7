package plog

import (
	"fmt"
	"testing"

	"whale/pmem"
)

func TestSmoke(t *testing.T) {
	g := Geometry{RingSlots: 64, SegmentSize: 64 << 10, Segments: 4}
	m := pmem.Heap(g.Size())
	if err := Format(m, g, Identity{1, 2}); err != nil {
		t.Fatal(err)
	}
	l, err := Open(m, "x", Identity{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Recover(nil); err != nil {
		t.Fatal(err)
	}
	if err := l.SetEpoch(1); err != nil {
		t.Fatal(err)
	}
	if err := l.AddEntry(EpochEntry{1, 1, l.Tail()}); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 300; i++ {
		r := Record{Kind: Put, GroupEnd: true, Seq: uint64(i), Key: []byte(fmt.Sprint("k", i)), Value: make([]byte, 3*i)}
		rec, err := l.Append(&r)
		if err != nil {
			t.Fatal(err)
		}
		if !l.Verify(rec) {
			t.Fatal(rec)
		}
	}
	l.Commit()
	end, tail := l.End(), l.Tail()
	l, err = Open(m, "x", Identity{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	rec, err := l.Recover(func(r Record, rec Rec) { n++ })
	if err != nil || l.End() != end || l.Tail() != tail || n != end {
		t.Fatal(rec, err, l.End(), l.Tail(), n)
	}
}
