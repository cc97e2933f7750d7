package plog

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"whale/pmem"
)

func sampleSuperblock() Superblock {
	return Superblock{
		Identity: testIdentity, Geometry: smallGeometry, Epoch: 12,
		Table:  []EpochEntry{{1, 1, 0}, {4, 20, 4096}, {12, 21, 8192}},
		BootID: [16]byte{1, 2, 3}, Domain: 1, Update: 44,
	}
}

func equalSuperblocks(a, b Superblock) bool {
	return a.Identity == b.Identity && a.Geometry == b.Geometry && a.Epoch == b.Epoch && slices.Equal(a.Table, b.Table) &&
		a.Merged == b.Merged && a.BootID == b.BootID && a.Domain == b.Domain && a.Update == b.Update
}

// Open names the file, what it found and what it expected.
func TestOpenRefuses(t *testing.T) {
	both := func(at int, b ...byte) func(m []byte) {
		return func(m []byte) { copy(m[at:], b); copy(m[at+copySize:], b) }
	}
	for _, c := range []struct {
		name   string
		damage func(m []byte)
		want   []string
	}{
		{"magic", both(0, []byte("GARBAGE!")...), []string{`magic "GARBAGE!", expected "WHALELOG"`}},
		{"version", both(8, 9), []string{"format version 9, expected 1"}},
		{"checksum", both(48, 77), []string{"checksum stored", "computed", "first:", "second:"}},
	} {
		m := format(t, smallGeometry)
		c.damage(m.Bytes())
		_, err := Open(m, "dir/a.whale", testIdentity)
		if err == nil {
			t.Errorf("%s: opened", c.name)
			continue
		}
		for _, want := range append(c.want, "dir/a.whale: ") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
		if errors.Is(err, ErrUnformatted) {
			t.Errorf("%s: %v passes for a new memory", c.name, err)
		}
	}

	m := format(t, smallGeometry)
	if _, err := Open(m, "f", Identity{3, 2}); err == nil || !strings.Contains(err.Error(), "shard 3, member 1, expected shard 3, member 2") {
		t.Errorf("another member's memory: %v", err)
	}
	longer := pmem.Heap(smallGeometry.Size() + 4096)
	copy(longer.Bytes(), m.Bytes())
	if _, err := Open(longer, "f", testIdentity); err == nil || !strings.Contains(err.Error(), "bytes, expected") {
		t.Errorf("another size: %v", err)
	}
	if _, err := Open(pmem.Heap(100), "f", testIdentity); err == nil {
		t.Error("opened 100 bytes")
	}
	if _, err := Open(pmem.Heap(smallGeometry.Size()), "f", testIdentity); !errors.Is(err, ErrUnformatted) {
		t.Errorf("zeros: %v", err)
	}
}

// A version that writes something this one does not know, with a right checksum, is not half understood.
func TestSuperblockImpossible(t *testing.T) {
	for name, change := range map[string]func(s *Superblock){
		"geometry":           func(s *Superblock) { s.RingSlots = 3 },
		"epochs decrease":    func(s *Superblock) { s.Table[1].Epoch = 12 },
		"seqs decrease":      func(s *Superblock) { s.Table[2].FirstSeq = 20 },
		"seq 0":              func(s *Superblock) { s.Table[0].FirstSeq = 0 },
		"offset unaligned":   func(s *Superblock) { s.Table[2].FirstOff++ },
		"offset outside":     func(s *Superblock) { s.Table[2].FirstOff = smallGeometry.ArenaSize() + 8 },
		"epoch below table":  func(s *Superblock) { s.Epoch = 11 },
		"offsets run back":   func(s *Superblock) { s.Table[2].FirstOff = 4088 },
		"merged, no entries": func(s *Superblock) { s.Merged, s.Table = true, nil },
	} {
		s := sampleSuperblock()
		change(&s)
		b := make([]byte, copySize)
		s.encode(b)
		if got, err := decodeSuperblock(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

// Either copy may be damaged, wherever, without loss; Open repairs it.
func TestSuperblockOneCopyDamaged(t *testing.T) {
	for _, at := range []int{0, 8, 24, 50, 140, 9000, 16383, 16384, 16384 + 60, 32767} {
		l := newLog(t, smallGeometry)
		put(t, l, "a", 10)
		l.Commit()
		m := l.Memory()
		before := bytes.Clone(m.Bytes()[:SuperblockSize])
		m.Bytes()[at] ^= 0x10
		got := reopen(t, m)
		if !equalSuperblocks(got.Superblock(), l.Superblock()) {
			t.Errorf("byte %d damaged: %+v, want %+v", at, got.Superblock(), l.Superblock())
		}
		if !bytes.Equal(before, m.Bytes()[:SuperblockSize]) {
			t.Errorf("byte %d damaged: not repaired", at)
		}
	}
}

func TestSuperblockNewerCopyCounts(t *testing.T) {
	for newer := range 2 {
		m := format(t, smallGeometry)
		s := sampleSuperblock()
		s.encode(m.Bytes()[newer*copySize:])
		l, err := Open(m, "a.whale", testIdentity)
		must(t, err)
		if !equalSuperblocks(l.Superblock(), s) {
			t.Errorf("copy %d is newer: %+v", newer, l.Superblock())
		}
		if !bytes.Equal(m.Bytes()[:copySize], m.Bytes()[copySize:SuperblockSize]) {
			t.Errorf("copy %d is newer: the other was not brought up", newer)
		}
	}
}

func TestFormatRefusesWhatIsInUse(t *testing.T) {
	for name, use := range map[string]func(m []byte){
		"superblock":         func(m []byte) { must(t, Format(memoryOf(m), smallGeometry, testIdentity)) },
		"damaged superblock": func(m []byte) { must(t, Format(memoryOf(m), smallGeometry, testIdentity)); m[3] ^= 1 },
		"other file":         func(m []byte) { copy(m, "#!/bin/sh") },
		"second copy":        func(m []byte) { m[20000] = 1 },
		"durable end":        func(m []byte) { m[32768+128] = 1 },
		"segment header":     func(m []byte) { m[smallGeometry.Arena()+3] = 1 },
		"record":             func(m []byte) { m[smallGeometry.Arena()+64] = 1 },
	} {
		m := pmem.Heap(smallGeometry.Size())
		use(m.Bytes())
		before := bytes.Clone(m.Bytes())
		if err := Format(m, smallGeometry, testIdentity); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(before, m.Bytes()) {
			t.Errorf("%s: refused, but changed", name)
		}
	}
	if err := Format(pmem.Heap(smallGeometry.Size()-8), smallGeometry, testIdentity); err == nil {
		t.Error("formatted a memory that is too small")
	}
}

// memoryOf is a memory over b, as a second mapping of a file is.
func memoryOf(b []byte) pmem.Memory { return &window{b} }

type window struct{ b []byte }

func (w *window) Bytes() []byte                 { return w.b }
func (w *window) Domain() pmem.Domain           { return pmem.None }
func (w *window) Persist(off, n uint64)         {}
func (w *window) CopyNT(off uint64, src []byte) { copy(w.b[off:], src) }
func (w *window) Fence()                        {}
func (w *window) Load64(off uint64) uint64      { return le.Uint64(w.b[off:]) }
func (w *window) Store64(off, v uint64)         { le.PutUint64(w.b[off:], v) }
func (w *window) Sync(off, n uint64) error      { return nil }

// In the domain of a synced file what must be durable is synced, and a failure of that is not swallowed.
func TestFileSyncedIsSynced(t *testing.T) {
	l := newLog(t, smallGeometry)
	put(t, l, "a", 1)
	l.Commit()
	m := &syncCounter{HeapMemory: pmem.HeapOf(smallGeometry.Size(), pmem.FileSynced)}
	copy(m.Bytes(), l.Memory().Bytes())
	l = reopen(t, m)
	for name, f := range map[string]func() error{
		"SetEpoch": func() error { return l.SetEpoch(l.Epoch() + 1) },
		"AddEntry": func() error { return l.AddEntry(EpochEntry{l.Epoch(), l.End() + 1, l.Tail()}) },
		"SetBoot":  func() error { return l.SetBoot([16]byte{1}) },
	} {
		m.syncs, m.fail = 0, nil
		epoch := l.Epoch()
		if name == "AddEntry" {
			must(t, l.SetEpoch(epoch+1))
			m.syncs = 0
		}
		must(t, f())
		if m.syncs == 0 {
			t.Errorf("%s did not sync", name)
		}
	}
	m.fail = errors.New("disk on fire")
	if err := l.SetEpoch(99); !errors.Is(err, m.fail) {
		t.Errorf("a failing sync: %v", err)
	}
	if l.Epoch() == 99 {
		t.Error("an epoch that is not durable is reported")
	}
}

type syncCounter struct {
	*pmem.HeapMemory
	syncs int
	fail  error
}

func (s *syncCounter) Sync(off, n uint64) error { s.syncs++; return s.fail }

func TestSetBoot(t *testing.T) {
	l := newLog(t, smallGeometry)
	must(t, l.SetBoot([16]byte{5, 6}))
	s := reopen(t, l.Memory()).Superblock()
	if s.BootID != [16]byte{5, 6} || s.Domain != uint8(pmem.None) {
		t.Errorf("%+v", s)
	}
}

func FuzzSuperblock(f *testing.F) {
	add := func(s Superblock) {
		b := make([]byte, copySize)
		s.encode(b)
		f.Add(b[:512])
	}
	add(sampleSuperblock())
	add(Superblock{Geometry: smallGeometry})
	s := sampleSuperblock()
	s.Merged = true
	add(s)
	f.Add([]byte(superMagic))
	spare := make([]byte, 256)
	b := make([]byte, copySize)
	s.encode(b)
	copy(spare, b)
	spare[100] = 1
	f.Add(spare)
	f.Fuzz(func(t *testing.T, start []byte) {
		b := make([]byte, copySize)
		copy(b, start)
		for range 2 {
			if s, err := decodeSuperblock(b); err == nil {
				again := make([]byte, copySize)
				s.encode(again)
				if !bytes.Equal(again, b) {
					t.Fatalf("a superblock that nobody writes is accepted: %+v", s)
				}
			}
			putCRC(b, sbCheck, 0, sbCheck)
		}
	})
}

// TestStored: the geometry is found in a memory that is longer than the log, as a device is, and nothing is changed, not even
// a copy of the superblock that is damaged.
func TestStored(t *testing.T) {
	log := pmem.Heap(smallGeometry.Size())
	if err := Format(log, smallGeometry, testIdentity); err != nil {
		t.Fatal(err)
	}
	device := pmem.Heap(smallGeometry.Size() + 12345)
	if _, err := Stored(device); !errors.Is(err, ErrUnformatted) {
		t.Errorf("an empty one: %v", err)
	}
	copy(device.Bytes(), log.Bytes())
	device.Bytes()[100] ^= 1
	before := bytes.Clone(device.Bytes())
	if g, err := Stored(device); err != nil || g != smallGeometry {
		t.Errorf("%+v, %v", g, err)
	}
	if !bytes.Equal(device.Bytes(), before) {
		t.Error("the memory was changed")
	}
	if _, err := Open(device, "device", testIdentity); err == nil {
		t.Error("Open takes a memory of another size")
	}
	device.Bytes()[copySize+100] ^= 1
	if _, err := Stored(device); err == nil || errors.Is(err, ErrUnformatted) {
		t.Errorf("both copies damaged: %v", err)
	}
}
