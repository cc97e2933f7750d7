package plog

import (
	"encoding/hex"
	"hash/crc32"
	"strings"
	"testing"

	"whale/pmem"
)

// The numbers here are written out on purpose: they are the format. A change of one of them is a new format version.

func TestGeometryLayout(t *testing.T) {
	g, err := DefaultGeometry(1 << 30)
	must(t, err)
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"slots", g.RingSlots, 65536},
		{"segment", g.SegmentSize, 8388608},
		{"segments", g.Segments, 128},
		{"control", g.Control(), 32768},
		{"ring", g.Ring(), 36864},
		{"arena", g.Arena(), 36864 + 4194304},
		{"size", g.Size(), 36864 + 4194304 + 1073741824},
		{"slot of seq 1", g.SlotOff(1), 36864 + 64},
		{"slot of seq 65536", g.SlotOff(65536), 36864},
		{"largest record", g.MaxRecord(), 8388608 - 64},
		{"slot size", SlotSize, 64},
		{"segment header", SegmentHeaderSize, 64},
		{"record header", RecordHeaderSize, 64},
		{"control size", ControlSize, 4096},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.name, c.got, c.want)
		}
	}
	if smallGeometry.Arena()%4096 != 0 {
		t.Errorf("the arena of %+v starts at %d, not on a page", smallGeometry, smallGeometry.Arena())
	}
}

func TestGeometryBounds(t *testing.T) {
	ok := smallGeometry
	for name, g := range map[string]Geometry{
		"slots not a power of two":   {96, ok.SegmentSize, 4},
		"too few slots":              {32, ok.SegmentSize, 4},
		"too many slots":             {2 << 20, ok.SegmentSize, 4},
		"no slots":                   {0, ok.SegmentSize, 4},
		"segment not a power of two": {64, 100000, 4},
		"segment too small":          {64, 32 << 10, 4},
		"segment too large":          {64, 2 << 30, 4},
		"one segment":                {64, ok.SegmentSize, 1},
		"size beyond address space":  {64, ok.SegmentSize, 1 << 62},
	} {
		if g.Validate() == nil {
			t.Errorf("%s: %+v is accepted", name, g)
		}
		if Format(pmem.Heap(64<<10), g, testIdentity) == nil {
			t.Errorf("%s: %+v is formatted", name, g)
		}
	}
	must(t, ok.Validate())
	if _, err := DefaultGeometry(16<<20 - 1); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("an arena of less than two segments: %v", err)
	}
}

func TestControlLayout(t *testing.T) {
	m := pmem.Heap(smallGeometry.Size())
	c := ControlOf(m, smallGeometry)
	c.SetS(1)
	c.SetDW(2)
	c.SetDurable(3)
	c.SetPeer(0, 10, 11, 12, 13)
	c.SetPeer(47, 20, 21, 22, 23)
	want := map[uint64]uint64{0: 1, 64: 2, 128: 3, 512: 10, 520: 11, 528: 12, 536: 13, 3520: 20, 3528: 21, 3536: 22, 3544: 23}
	for off := uint64(0); off < 4096; off += 8 {
		if got := m.Load64(32768 + off); got != want[off] {
			t.Errorf("control word at %d: %d, want %d", off, got, want[off])
		}
	}
	if c.S() != 1 || c.DW() != 2 || c.Durable() != 3 {
		t.Errorf("S, DW, durable: %d, %d, %d", c.S(), c.DW(), c.Durable())
	}
	if a, b, f, l := c.Peer(47); a != 20 || b != 21 || f != 22 || l != 23 {
		t.Errorf("peer 47: %d %d %d %d", a, b, f, l)
	}
	if OffS != 0 || OffDW != 64 || OffDurable != 128 || OffPeers != 512 || OffPeer(1) != 576 || MaxMembers != 48 {
		t.Error("offsets in the control page have moved")
	}
	mustPanic(t, "member 48", func() { OffPeer(48) })
	mustPanic(t, "member -1", func() { OffPeer(-1) })
}

func TestWord(t *testing.T) {
	w := Word(0xABCD_1234, 0x0000_5566_7788_99AA)
	if w != 0x1234_5566_7788_99AA {
		t.Fatalf("word %016x", w)
	}
	if seq, ok := SeqIn(w, 0xABCD_1234); !ok || seq != 0x5566_7788_99AA {
		t.Errorf("seq %x, %v", seq, ok)
	}
	if _, ok := SeqIn(w, 0x1235); ok {
		t.Error("a word of epoch 0x1234 is accepted in epoch 0x1235")
	}
	if tag, seq := SplitWord(w); tag != 0x1234 || seq != 0x5566_7788_99AA {
		t.Errorf("split: %x %x", tag, seq)
	}
}

// fields reads a description "offset:hex" into bytes.
func fields(t *testing.T, size int, desc map[int]string) []byte {
	t.Helper()
	b := make([]byte, size)
	for off, h := range desc {
		v, err := hex.DecodeString(strings.ReplaceAll(h, " ", ""))
		must(t, err)
		copy(b[off:], v)
	}
	return b
}

func putCRC(b []byte, at, from, to int) {
	c := crc32.Checksum(b[from:to], crc32.MakeTable(crc32.Castagnoli))
	b[at], b[at+1], b[at+2], b[at+3] = byte(c), byte(c>>8), byte(c>>16), byte(c>>24)
}

func sameBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: byte %d is %02x, want %02x\n%s", what, i, got[i], want[i], hex.Dump(got))
		}
	}
}

func TestSlotLayout(t *testing.T) {
	s := Slot{
		Rec:   Rec{Seq: 0x0102, Hash: 0x0304, Off: 0x0506, Len: 0x0708, Sum: 0x090A, Flags: Flags(Tombstone) | GroupEnd | Direct},
		S:     0x0B0C,
		DW:    0x0D0E,
		Epoch: 0x0F10,
	}
	want := fields(t, 64, map[int]string{0: "0201", 8: "0403", 16: "0605", 24: "0C0B", 32: "0E0D", 40: "100F", 44: "0807", 48: "0A09", 52: "0203"})
	putCRC(want, 60, 0, 60)
	got := make([]byte, 64)
	s.Encode(got)
	sameBytes(t, "slot", got, want)
	if back, ok := DecodeSlot(got); !ok || back != s {
		t.Errorf("decoded %+v, %v", back, ok)
	}
	if GroupEnd != 0x100 || Direct != 0x200 || Put != 1 || Tombstone != 2 || FlushAll != 3 {
		t.Error("flags or kinds have moved")
	}
}

func TestRecordAndSegmentLayout(t *testing.T) {
	l := newLog(t, smallGeometry)
	must(t, l.SetEpoch(0x0A0B))
	must(t, l.AddEntry(EpochEntry{Epoch: 0x0A0B, FirstSeq: 1}))
	r := Record{Kind: Tombstone, GroupEnd: true, Seq: 1, Prev: 0x1112, Deadline: -2, Client: 0x1314, Request: 0x1516, Key: []byte("abc"), Value: []byte("12")}
	rec, err := l.Append(&r)
	must(t, err)

	want := fields(t, 72, map[int]string{
		4: "02", 5: "01", 8: "01", 16: "0B0A", 20: "03", 24: "02", 32: "1211", 40: "FEFFFFFFFFFFFFFF",
		48: "1413", 56: "1615", 64: "616263", 67: "3132",
	})
	putCRC(want, 0, 4, 69)
	memory := l.Memory().Bytes()
	arena := memory[36864+64*64:]
	sameBytes(t, "record", arena[64:136], want)
	if rec != (Rec{Seq: 1, Hash: HashKey([]byte("abc")), Off: 64, Len: 69, Sum: le.Uint32(want), Flags: Flags(Tombstone) | GroupEnd}) || rec.End() != 136 {
		t.Errorf("rec %+v", rec)
	}

	header := fields(t, 64, map[int]string{0: "53 45 47 4D", 8: "01", 16: "0B0A", 24: "01"})
	putCRC(header, 60, 0, 60)
	sameBytes(t, "segment header", arena[:64], header)
	if off, n := l.g.Span(rec); off != 0 || n != 136 {
		t.Errorf("span of the first record: %d, %d", off, n)
	}
	second := put(t, l, "k", 1)
	if off, n := l.g.Span(second); off != 136 || n != 72 {
		t.Errorf("span of the second record: %d, %d", off, n)
	}
}

func TestSuperblockLayout(t *testing.T) {
	s := Superblock{
		Identity: Identity{Shard: 0x0102, Member: 0x0304},
		Geometry: Geometry{RingSlots: 128, SegmentSize: 65536, Segments: 3},
		Epoch:    9,
		Table:    []EpochEntry{{Epoch: 7, FirstSeq: 1}, {Epoch: 8, FirstSeq: 0x21, FirstOff: 0x1000}},
		Merged:   true, BootID: [16]byte{0xB0, 15: 0xB1}, Domain: 3, Update: 0x0506,
	}
	want := fields(t, 16384, map[int]string{
		0: hex.EncodeToString([]byte("WHALELOG")), 8: "01", 12: "03", 13: "01", 16: "0201", 20: "0403",
		24: "80", 32: "000001", 40: "03", 48: "09", 52: "02", 56: "0605", 64: "B0", 79: "B1",
		128: "07", 136: "01", 152: "08", 160: "21", 168: "0010",
	})
	putCRC(want, 16380, 0, 16380)
	got := make([]byte, 16384)
	s.encode(got)
	sameBytes(t, "superblock", got, want)
	if SuperblockSize != 2*16384 {
		t.Errorf("superblock of %d bytes", SuperblockSize)
	}
	m := pmem.Heap(s.Geometry.Size())
	must(t, writeSuperblock(m, &s))
	sameBytes(t, "first copy", m.Bytes(), want)
	sameBytes(t, "second copy", m.Bytes()[16384:], want)
	if n := 128 + MaxEntries*24; n > 16380 {
		t.Errorf("a full epoch table ends at %d, in the checksum", n)
	}
}
