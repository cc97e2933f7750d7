package store

import (
	"fmt"
	"testing"

	"whale/internal/plog"
)

// Readers depend on three orders. Each of these stories stops one goroutine between the two steps and lets the other one
// go on; with the steps turned around it must notice.
func TestOrders(t *testing.T) {
	stories := []struct {
		name  string
		place place
		tell  func(p, r *member) error
	}{
		{"a record is installed while a reader is between pending and index", betweenPendingAndIndex, installedBetweenLookups},
		{"a reader comes while a record is being installed", betweenIndexAndInstalled, readWhileInstalling},
		{"a reader comes while a slot is being drained", betweenPendingAndDrained, readWhileDraining},
		{"the block of a key is replaced, and used again, under a reader at a replica", duringLookup, blockReplacedAtReplica},
		{"the same at the primary", duringLookup, blockReplacedAtPrimary},
		{"the slot that a reader looks at is drained by another one, and overwritten", duringLookAtSlot, overwrittenSlot},
		{"a flush-all is installed, and what follows it, while a reader looks at pending", betweenFlushAndChain, installedBehindFlush},
	}
	for _, story := range stories {
		for _, swap := range []place{0, story.place} {
			t.Run(fmt.Sprintf("%s/broken=%v", story.name, swap != 0), func(t *testing.T) {
				p, r := newMember(t, small, Primary, crowded), newMember(t, small, Replica, crowded)
				first := p.set(t, "key", "old")
				r.deliver(p, first.Seq, first)
				r.expect(t, "key", "=old")
				r.s.swap = swap
				err := story.tell(p, r)
				if swap == 0 && err != nil {
					t.Error(err)
				}
				if swap != 0 && err == nil {
					t.Error("the order was turned around and nothing was noticed")
				}
			})
		}
	}
}

// crowded puts all hashes under two of the first blocks of the index.
func crowded(h uint64) uint64 { return h>>7&^(7<<53) | 1 }

// crowd writes so many keys beside "key" that its block is replaced, and the old one used for others.
func crowd(p, r *member) {
	t := panics{}
	for i := 0; i < 4000; i += 16 {
		tx := p.s.Begin()
		for n := range 16 {
			tx.Set([]byte(numbered("crowd", i+n)), nil)
		}
		recs := p.commit(t, tx)
		p.s.SetStable(p.l.End())
		r.deliver(p, p.l.End(), recs...)
	}
}

func blockReplacedAtReplica(p, r *member) error {
	r.once(duringLookup, func() { crowd(p, r) })
	if got := r.read("key"); got != "=old" {
		return fmt.Errorf("reads %s", got)
	}
	return nil
}

func blockReplacedAtPrimary(p, r *member) error {
	p.s.swap, r.s.swap = r.s.swap, 0
	p.s.SetStable(p.l.End())
	p.once(duringLookup, func() { crowd(p, r) })
	if got := p.read("key"); got != "=old" {
		return fmt.Errorf("reads %s", got)
	}
	return nil
}

// overwrittenSlot: two slots are visible, and another reader is half way through draining them, when P, which knows how
// far that is, begins to write over the first.
func overwrittenSlot(p, r *member) error {
	t := panics{}
	other, rec := p.set(t, "other", "value"), p.set(t, "key", "new")
	for _, rec := range []plog.Rec{other, rec} {
		r.deliverBytes(p, rec)
		r.deliverSlot(p, rec, 0)
	}
	r.once(duringLookAtSlot, func() {
		r.s.pending.add(other, r.s.bucket(other))
		r.s.pending.drained.Store(other.Seq)
		r.m.Bytes()[small.SlotOff(other.Seq)+8] ^= 1
	})
	if got := r.read("key"); got != "dirty" {
		return fmt.Errorf("reads %s, although the slot of a newer version was visible", got)
	}
	return nil
}

// installedBehindFlush: a flush-all and a version behind it, both stable, leave pending while a reader has seen the one and
// not yet looked for the other.
func installedBehindFlush(p, r *member) error {
	t := panics{}
	flush, rec := p.flushAll(t), p.set(t, "key", "new")
	for _, rec := range []plog.Rec{flush, rec} {
		r.deliverBytes(p, rec)
		r.deliverSlot(p, rec, 0)
	}
	r.s.Drain()
	r.s.SetStable(rec.Seq)
	r.once(betweenFlushAndChain, func() {
		r.s.Verify(nil, 2, 1<<40)
		r.s.Install(1 << 20)
	})
	if got := r.read("key"); got != "=new" {
		return fmt.Errorf("reads %s after the new value was stable", got)
	}
	return nil
}

// once runs f at the first stop at that place.
func (r *member) once(at place, f func()) {
	r.s.stop = func(p place) {
		if p == at {
			r.s.stop = nil
			f()
		}
	}
}

func installedBetweenLookups(p, r *member) error {
	t := panics{}
	rec := p.set(t, "key", "new")
	r.deliverBytes(p, rec)
	r.deliverSlot(p, rec, 0)
	r.s.Drain()
	// The record is pending and stable. A reader that has looked at the index first would find it nowhere.
	r.s.SetStable(rec.Seq)
	r.once(betweenPendingAndIndex, func() {
		r.s.Verify(nil, 1, 1<<40)
		r.s.Install(1 << 20)
	})
	if got := r.read("key"); got != "=new" {
		return fmt.Errorf("reads %s after the new value was stable", got)
	}
	if r.s.stop != nil { // the reader found the record pending and did not get there
		r.s.stop = nil
	}
	return nil
}

func readWhileInstalling(p, r *member) (err error) {
	t := panics{}
	rec := p.set(t, "key", "new")
	r.deliverBytes(p, rec)
	r.deliverSlot(p, rec, 0)
	r.s.Drain()
	r.s.SetStable(rec.Seq)
	r.s.Verify(nil, 1, 1<<40)
	read := false
	r.once(betweenIndexAndInstalled, func() {
		read = true
		if got := r.read("key"); got != "=new" {
			err = fmt.Errorf("reads %s after the new value was stable", got)
		}
	})
	r.s.Install(1 << 20)
	if !read {
		return fmt.Errorf("nobody read in between")
	}
	return err
}

func readWhileDraining(p, r *member) (err error) {
	t := panics{}
	rec := p.set(t, "key", "new")
	r.deliverBytes(p, rec)
	r.deliverSlot(p, rec, 0)
	read := false
	r.once(betweenPendingAndDrained, func() {
		read = true
		if r.s.Drained() != rec.Seq { // a reader would wait for the lock, and see the record afterwards
			if _, pending := r.s.pending.newest(r.s.bucket(rec)); !pending {
				err = fmt.Errorf("neither drained nor pending")
			}
			return
		}
		if got := r.read("key"); got == "=old" {
			err = fmt.Errorf("drained is %d, and the record of that seq is not pending", rec.Seq)
		}
	})
	r.s.Drain()
	if !read {
		return fmt.Errorf("nobody read in between")
	}
	return err
}

// The metadata tells that a value is old, not the arrival of the new one's bytes: trap 2 of the protocol.
func TestBytesWithoutSlotAreNotNews(t *testing.T) {
	p, r := newMember(t, small, Primary, nil), newMember(t, small, Replica, nil)
	first := p.set(t, "key", "old")
	r.deliver(p, first.Seq, first)
	second := p.set(t, "key", "new")
	r.deliverBytes(p, second)
	r.expect(t, "key", "=old")
	r.deliverSlot(p, second, first.Seq)
	r.expect(t, "key", "dirty")
	if got, _ := r.readAt("key"); got != "=old" {
		t.Errorf("reads %s at S = %d, want the old value", got, r.s.Stable())
	}
	r.s.SetStable(second.Seq)
	r.expect(t, "key", "=new")
}

// A slot of another epoch, of another seq or with a damaged byte is not drained.
func TestForeignSlots(t *testing.T) {
	p, r := newMember(t, small, Primary, nil), newMember(t, small, Replica, nil)
	rec := p.set(t, "key", "value")
	at := small.SlotOff(rec.Seq)
	for _, slot := range []plog.Slot{
		{Rec: rec, Epoch: p.l.Epoch() + 1},
		{Rec: rec, Epoch: p.l.Epoch() - 1},
		{Rec: plog.Rec{Seq: rec.Seq + small.RingSlots, Hash: rec.Hash, Off: rec.Off, Len: rec.Len, Flags: rec.Flags}, Epoch: p.l.Epoch()},
	} {
		plog.StoreSlot(r.m, at, &slot)
		if got := r.s.Drain(); got != 0 {
			t.Errorf("slot %+v was drained", slot)
		}
		r.expect(t, "key", "miss")
	}
	for i := range plog.SlotSize {
		r.deliverSlot(p, rec, 0)
		r.m.Bytes()[at+uint64(i)] ^= 4
		if got := r.s.Drain(); got != 0 {
			t.Errorf("a slot with a damaged byte %d was drained", i)
		}
	}
	r.deliverSlot(p, rec, 0)
	if got := r.s.Drain(); got != rec.Seq {
		t.Errorf("drained up to %d, want %d", got, rec.Seq)
	}
}

// When the table is full, a slot may be in the ring that no reader can know of: reads go through the loop.
func TestPendingFull(t *testing.T) {
	p, r := newMember(t, small, Primary, nil), newMember(t, small, Replica, nil)
	var recs []plog.Rec
	for i := range int(small.RingSlots) + 1 {
		recs = append(recs, p.set(t, numbered("k", i), "value"))
	}
	for _, rec := range recs[:small.RingSlots] {
		r.deliverSlot(p, rec, 0)
	}
	if got := r.s.Drain(); got != small.RingSlots {
		t.Fatalf("drained up to %d, want %d", got, small.RingSlots)
	}
	r.expect(t, "other", "miss")
	last := recs[small.RingSlots]
	r.deliverSlot(p, last, 0)
	if got := r.s.Drain(); got != small.RingSlots {
		t.Fatalf("drained up to %d beyond the table's size", got)
	}
	r.expect(t, "other", "dirty")
	r.s.SetStable(last.Seq)
	if got, need := r.readAt("other"); got != "dirty" || need.Seq != 0 {
		t.Errorf("reads %s, needs %+v; want dirty without need", got, need)
	}
	if got := r.s.Missing(nil, 1000); len(got) != int(small.RingSlots) {
		t.Errorf("%d records are missing, want %d", len(got), small.RingSlots)
	}
	r.deliver(p, last.Seq, recs...)
	r.s.Drain()
	if got, need := r.readAt("other"); got != "miss" {
		t.Errorf("reads %s, needs %+v; want miss", got, need)
	}
	if got, need := r.readAt(numbered("k", 64)); got != "=value" {
		t.Errorf("reads %s, needs %+v; want the value", got, need)
	}
}

// After a view change old bytes lie where the new record goes: same seq, same key, same length, a checksum that holds.
func TestBytesOfADroppedRecord(t *testing.T) {
	p, r := newMember(t, small, Primary, nil), newMember(t, small, Replica, nil)
	dropped := p.set(t, "key", "dropped")
	r.deliverBytes(p, dropped)
	r.deliverSlot(p, dropped, 0)
	r.s.Drain()
	must(t, p.l.CutTo(0))
	p.rebuild(t)
	kept := p.set(t, "key", "kept...")
	entry := plog.EpochEntry{Epoch: p.l.Epoch(), FirstSeq: 1}
	must(t, r.l.SetEpoch(entry.Epoch))
	must(t, r.l.AddEntry(entry))
	must(t, r.s.SetEpoch(entry.Epoch, 0))
	r.expect(t, "key", "miss")
	r.deliverSlot(p, kept, 0)
	r.s.Drain()
	r.s.SetStable(kept.Seq)
	r.expect(t, "key", "dirty")
	if got, need := r.readAt("key"); got != "dirty" || need != kept {
		t.Errorf("reads %s, needs %+v; want %+v to be needed", got, need, kept)
	}
	r.deliverBytes(p, kept)
	r.expect(t, "key", "=kept...")
}

// Keys that share a bucket of the pending table, but not the hash, do not make each other dirty.
func TestBucketIsNotHash(t *testing.T) {
	fold := func(h uint64) uint64 { return h<<32 | 1 }
	p, r := newMember(t, small, Primary, fold), newMember(t, small, Replica, fold)
	first := p.set(t, "a", "value")
	r.deliver(p, first.Seq, first)
	second := p.set(t, "b", "value")
	r.deliverSlot(p, second, 0)
	r.expect(t, "a", "=value")
	r.expect(t, "b", "dirty")
}

// An epoch that begins below what the index shows is refused: the index cannot take records back.
func TestEpochBelowInstalled(t *testing.T) {
	p, r := newMember(t, small, Primary, nil), newMember(t, small, Replica, nil)
	first := p.set(t, "key", "value")
	r.deliver(p, first.Seq, first)
	if err := r.s.SetEpoch(9, 0); err == nil {
		t.Error("accepted")
	}
	if err := r.s.SetEpoch(9, 2); err == nil {
		t.Error("an end above what was drained was accepted")
	}
	if got := r.s.epoch.Load(); got == 9 {
		t.Error("the epoch was taken all the same")
	}
}
