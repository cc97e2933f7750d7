package plog

import (
	"bytes"
	"sync"
	"testing"

	"whale/pmem"
)

func sampleSlot(seq uint64) Slot {
	return Slot{Rec: Rec{Seq: seq, Hash: seq * 31, Off: seq * 64, Len: uint32(seq) + 64, Sum: uint32(seq) * 77, Flags: Flags(Put) | GroupEnd}, S: seq - 1, DW: seq / 2, Epoch: uint32(seq % 5)}
}

// Every bit of a slot counts.
func TestSlotBitFlips(t *testing.T) {
	s := sampleSlot(12345)
	var b [SlotSize]byte
	s.Encode(b[:])
	for bit := range SlotSize * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if got, ok := DecodeSlot(b[:]); ok {
			t.Errorf("bit %d flipped, decoded as %+v", bit, got)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	if _, ok := DecodeSlot(make([]byte, SlotSize)); ok {
		t.Error("zeros are a slot")
	}
	if _, ok := DecodeSlot(b[:63]); ok {
		t.Error("63 bytes are a slot")
	}
}

// A reader of a ring that is being written sees whole slots or none.
func TestLoadSlotBesideStoreSlot(t *testing.T) {
	m := pmem.Heap(smallGeometry.Size())
	off := smallGeometry.SlotOff(1)
	const last = 20000
	var wg sync.WaitGroup
	wg.Go(func() {
		for seq := uint64(1); seq <= last; seq++ {
			s := sampleSlot(seq)
			StoreSlot(m, off, &s)
		}
	})
	var before uint64
	for before < last {
		s, ok := LoadSlot(m, off)
		if !ok {
			continue
		}
		if s != sampleSlot(s.Seq) || s.Seq < before {
			t.Fatalf("loaded %+v after seq %d", s, before)
		}
		before = s.Seq
	}
	wg.Wait()
}

func TestSlotsDoNotAllocate(t *testing.T) {
	m := pmem.Heap(smallGeometry.Size())
	s := sampleSlot(9)
	buf := make([]byte, SlotSize)
	if n := testing.AllocsPerRun(100, func() {
		s.Encode(buf)
		DecodeSlot(buf)
		StoreSlot(m, 36864, &s)
		LoadSlot(m, 36864)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSlot(f *testing.F) {
	for _, seq := range []uint64{0, 1, 1 << 40} {
		s := sampleSlot(seq)
		b := make([]byte, SlotSize)
		s.Encode(b)
		f.Add(b)
	}
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		// As it is, and with the checksum made right, so that the checks behind it are reached.
		for range 2 {
			if s, ok := DecodeSlot(b); ok {
				again := make([]byte, SlotSize)
				s.Encode(again)
				if !bytes.Equal(again, b[:SlotSize]) {
					t.Fatalf("%x decodes as %+v, which encodes as %x", b, s, again)
				}
			}
			if len(b) < SlotSize {
				return
			}
			b = bytes.Clone(b[:SlotSize])
			putCRC(b, 60, 0, 60)
		}
	})
}
