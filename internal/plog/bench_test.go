package plog

import (
	"testing"

	"whale/pmem"
)

var benchGeometry = Geometry{RingSlots: 1 << 16, SegmentSize: 8 << 20, Segments: 16}

// benchLog is a log in touched memory.
func benchLog(b *testing.B) *Log {
	m := pmem.Heap(benchGeometry.Size())
	must(b, Format(m, benchGeometry, testIdentity))
	for off := benchGeometry.Arena(); off < benchGeometry.Size(); off += 4096 {
		m.Bytes()[off] = 0
	}
	l := reopen(b, m)
	enter(b, l, 1)
	return l
}

func benchAppend(b *testing.B, value, batch int) {
	l := benchLog(b)
	r := Record{Kind: Put, GroupEnd: true, Key: []byte("key:000000000123"), Value: make([]byte, value)}
	size := []uint64{RecordSize(len(r.Key), value)}
	b.SetBytes(int64(value))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if !l.Fits(size, false) {
			l.end, l.tail, l.mark = 0, 0, 0
		}
		r.Seq = l.End() + 1
		if _, err := l.Append(&r); err != nil {
			b.Fatal(err)
		}
		if i%batch == 0 {
			l.Commit()
		}
	}
}

func BenchmarkAppend64B(b *testing.B)          { benchAppend(b, 64, 1) }
func BenchmarkAppend64BBatchOf64(b *testing.B) { benchAppend(b, 64, 64) }
func BenchmarkAppend4KiB(b *testing.B)         { benchAppend(b, 4096, 64) }

func BenchmarkVerify64B(b *testing.B) {
	l := benchLog(b)
	rec := put(b, l, "key:000000000122", 64)
	rec = put(b, l, "key:000000000123", 64)
	b.ReportAllocs()
	for b.Loop() {
		if !l.Verify(rec) {
			b.Fatal("no")
		}
	}
}

func BenchmarkVerifyAbsent(b *testing.B) {
	l := benchLog(b)
	rec := put(b, l, "key:000000000123", 64)
	rec.Off, rec.Seq = rec.End(), 2
	for b.Loop() {
		if l.Verify(rec) {
			b.Fatal("yes")
		}
	}
}

func BenchmarkRecord64B(b *testing.B) {
	l := benchLog(b)
	rec := put(b, l, "key:000000000123", 64)
	for b.Loop() {
		if _, _, err := l.Record(rec.Off); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStoreSlot(b *testing.B) {
	m := pmem.Heap(smallGeometry.Size())
	s := sampleSlot(7)
	b.ReportAllocs()
	for b.Loop() {
		s.Seq++
		StoreSlot(m, smallGeometry.SlotOff(s.Seq), &s)
	}
}

func BenchmarkEncodeSlot(b *testing.B) {
	buf := make([]byte, SlotSize)
	s := sampleSlot(7)
	for b.Loop() {
		s.Seq++
		s.Encode(buf)
	}
}

func BenchmarkLoadSlot(b *testing.B) {
	m := pmem.Heap(smallGeometry.Size())
	s := sampleSlot(7)
	StoreSlot(m, 36864, &s)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := LoadSlot(m, 36864); !ok {
			b.Fatal("no")
		}
	}
}

// BenchmarkRecover is per record of 64 B.
func BenchmarkRecover(b *testing.B) {
	l := benchLog(b)
	for range 100_000 {
		put(b, l, "key:000000000123", 64)
	}
	l.Commit()
	for b.Loop() {
		if _, err := l.Recover(func(Record, Rec) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/record")
}
