package store

import (
	"encoding/binary"
	"testing"

	"whale/internal/plog"
)

// FuzzHostileSlots lets a peer write what it likes into the ring, with checksums that hold, and into the arena. Nothing
// panics, no read returns what no record has, and the log takes in only what verifies.
func FuzzHostileSlots(f *testing.F) {
	seed := func(recs ...plog.Rec) {
		var b []byte
		for _, r := range recs {
			b = binary.LittleEndian.AppendUint64(b, r.Hash)
			b = binary.LittleEndian.AppendUint64(b, r.Off)
			b = binary.LittleEndian.AppendUint32(b, r.Len)
			b = binary.LittleEndian.AppendUint32(b, r.Sum)
			b = binary.LittleEndian.AppendUint32(b, uint32(r.Flags))
			b = binary.LittleEndian.AppendUint32(b, 1)
		}
		f.Add(b, uint64(100))
	}
	hash := plog.HashKey([]byte("key"))
	seed()
	seed(plog.Rec{Hash: hash, Off: 64, Len: 72, Flags: plog.Flags(plog.Put)})
	seed(plog.Rec{Hash: 0, Off: 64, Len: 72, Flags: plog.Flags(plog.Put)})
	seed(plog.Rec{Hash: hash, Off: 1<<64 - 8, Len: 1<<32 - 1, Flags: plog.Flags(plog.Tombstone)})
	seed(plog.Rec{Hash: hash, Off: small.ArenaSize() - 64, Len: 64, Flags: plog.Flags(plog.FlushAll)})
	seed(plog.Rec{Hash: hash, Off: 128, Len: 64, Flags: plog.Flags(plog.Put) | plog.Direct}, plog.Rec{Flags: plog.Flags(plog.FlushAll) | plog.GroupEnd})
	const size = 32
	r := newMember(f, small, Replica, nil)
	f.Fuzz(func(t *testing.T, slots []byte, s uint64) {
		r.rebuild(t)
		clear(r.m.Bytes()[small.Arena():])
		seq := uint64(0)
		for ; len(slots) >= size && seq < small.RingSlots+4; slots = slots[size:] {
			seq++
			rec := plog.Rec{
				Seq: seq, Hash: binary.LittleEndian.Uint64(slots), Off: binary.LittleEndian.Uint64(slots[8:]),
				Len: binary.LittleEndian.Uint32(slots[16:]), Sum: binary.LittleEndian.Uint32(slots[20:]),
				Flags: plog.Flags(binary.LittleEndian.Uint32(slots[24:])),
			}
			slot := plog.Slot{Rec: rec, S: s, Epoch: r.l.Epoch()}
			plog.StoreSlot(r.m, small.SlotOff(seq), &slot)
			if slots[28]&1 != 0 && rec.Off < small.ArenaSize()-8 {
				r.m.Store64(small.Arena()+rec.Off&^7+8, seq) // what a look at one word takes for the record
			}
			if slots[28]&2 != 0 {
				r.s.Drain()
			}
		}
		for range 2 {
			if value, v, _ := r.s.Read([]byte("key"), nil); v == Hit {
				t.Fatalf("reads %q", value)
			}
			if value, v, _, _ := r.s.ReadAt([]byte("key"), nil); v == Hit {
				t.Fatalf("reads %q", value)
			}
			if recs := r.s.Verify(nil, 1000, 1<<40); len(recs) > 0 {
				t.Fatalf("%+v was taken for verified", recs)
			}
			r.s.Missing(nil, 1000)
			r.s.Install(1 << 20)
		}
		for i := range small.RingSlots {
			clear(r.m.Bytes()[small.SlotOff(i):][:plog.SlotSize])
		}
	})
}
