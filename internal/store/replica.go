package store

import (
	"math"

	"whale/internal/plog"
)

// SetEpoch begins a view: slots of epoch e are accepted from drained+1 on, and what is pending above drained, the end of
// this member's log, is dropped. What the index shows cannot be dropped: a member whose log was cut below Installed has to
// Rebuild first. The loop; readers may go on, but their answers must not leave (the lease of the old epoch is over).
func (s *Store) SetEpoch(e uint32, drained uint64) error {
	if s.role == Primary {
		return nil
	}
	s.draining.Lock()
	defer s.draining.Unlock()
	if low, high := s.pending.installed.Load(), s.pending.drained.Load(); drained < low || drained > high {
		return errEpochEnd(e, drained, low, high)
	}
	s.pending.truncate(drained)
	s.epoch.Store(e)
	return nil
}

// Drain moves slots from the ring to pending, up to the first that is not there, and returns the seq of the last. Every
// slot that was visible when Drain was called is pending on return, unless the table is full. Any goroutine.
func (s *Store) Drain() uint64 {
	s.drain()
	return s.pending.drained.Load()
}

// DrainSome is Drain, except that it ends after limit slots. Any goroutine.
func (s *Store) DrainSome(limit int) uint64 {
	if _, ok := s.arrived(); ok {
		s.draining.Lock()
		defer s.draining.Unlock()
		s.drainLocked(limit)
	}
	return s.pending.drained.Load()
}

// Drained is the seq of the last slot that is pending or was. Any goroutine.
func (s *Store) Drained() uint64 { return s.pending.drained.Load() }

// drain is Drain; false: the table is full and there may be more slots in the ring.
func (s *Store) drain() bool {
	if _, ok := s.arrived(); !ok {
		return true
	}
	// If somebody else is draining, he may be past a slot that appeared since: what is visible now is known to be pending
	// only after a pass that begins now.
	s.draining.Lock()
	defer s.draining.Unlock()
	return s.drainLocked(math.MaxInt)
}

// arrived looks for the slot after the drained one. What is not that slot proves its absence only if nobody drained it
// meanwhile: else P may be overwriting it already, and slots behind it may still be in the ring.
func (s *Store) arrived() (plog.Slot, bool) {
	for {
		next := s.pending.drained.Load() + 1
		at := s.g.SlotOff(next)
		if s.m.Load64(at) == next { // most often it is not, and costs nothing more
			s.at(duringLookAtSlot)
			slot, ok := plog.LoadSlot(s.m, at)
			if ok && slot.Seq == next && s.accepts(slot.Epoch) {
				return slot, true
			}
		}
		if s.pending.drained.Load()+1 == next || s.swap == duringLookAtSlot {
			return plog.Slot{}, false
		}
	}
}

func (s *Store) accepts(epoch uint32) bool {
	return epoch != 0 && epoch == s.epoch.Load()
}

// drainLocked drains at most limit slots; false: there may be more in the ring.
func (s *Store) drainLocked(limit int) bool {
	p := &s.pending
	for range limit {
		slot, ok := s.arrived()
		if !ok {
			return true
		}
		if p.full() {
			return false
		}
		if s.swap == betweenPendingAndDrained {
			p.drained.Store(slot.Seq)
			s.at(betweenPendingAndDrained)
			p.add(slot.Rec, s.bucket(slot.Rec))
		} else {
			p.add(slot.Rec, s.bucket(slot.Rec))
			s.at(betweenPendingAndDrained)
			p.drained.Store(slot.Seq)
		}
		raise(&s.stable, slot.S)
		raise(&s.everywhere, slot.DW)
	}
	return false
}

// bucket is the hash that the index uses, and 0 for a flush-all alone.
func (s *Store) bucket(r plog.Rec) uint64 {
	if r.Flags.Kind() == plog.FlushAll {
		return 0
	}
	return max(s.folded(r.Hash), 1) // a slot of hash 0 is malformed; its record does not verify
}

// Verify extends the log by the pending records behind its end whose bytes are here and verify, and appends them to dst: at
// most limit, and none behind that with which they are bytes long. The engine calls the log's Commit afterwards. The loop.
func (s *Store) Verify(dst []plog.Rec, limit int, bytes uint64) []plog.Rec {
	p := &s.pending
	var n uint64
	for range limit {
		seq := s.l.End() + 1
		if n >= bytes || seq > p.drained.Load() || s.fault != nil {
			break
		}
		r, ok := p.get(seq)
		if !ok || !s.here(&r) {
			break
		}
		if err := s.l.Extend(r.Rec); err != nil {
			s.fault = err
			break
		}
		dst = append(dst, r.Rec)
		n += uint64(r.Len)
	}
	return dst
}

// Fault tells why Verify goes no further although the bytes are here: the log refuses a record that P has named, so this
// member's log and P's differ. The loop.
func (s *Store) Fault() error { return s.fault }

// here says whether the bytes of a pending record are here, and remembers it when they are. The loop.
func (s *Store) here(r *pendingRecord) bool {
	mark := &s.pending.entries[r.Seq&s.pending.mask].here
	if mark.Load() == r.Seq {
		return true
	}
	if !s.l.Verify(r.Rec) && !(s.bad == FaultNoChecksum && s.m.Load64(s.g.Arena()+r.Off+8) == r.Seq) {
		return false
	}
	mark.Store(r.Seq)
	return true
}

// Missing appends to dst those of the first limit pending records above the log's end whose bytes are not here. The loop.
func (s *Store) Missing(dst []plog.Rec, limit int) []plog.Rec {
	p := &s.pending
	first := s.l.End() + 1
	for seq := first; seq < first+uint64(limit) && seq <= p.drained.Load(); seq++ {
		if r, ok := p.get(seq); ok && !s.here(&r) {
			dst = append(dst, r.Rec)
		}
	}
	return dst
}

// Install lets the index show the records up to S as it is known here, as far as the log has them, and at most limit more
// than before. The loop.
func (s *Store) Install(limit uint64) {
	p := &s.pending
	first, end := p.installed.Load()+1, min(s.stable.Load(), s.l.End())
	if s.bad == FaultInstallUnstable {
		end = s.l.End()
	}
	end = min(end, first-1+limit)
	for seq := first; seq <= end; seq++ {
		if (seq-first)%installAhead == 0 {
			s.prefetchPending(seq, min(end, seq+installAhead-1))
		}
		r, ok := p.get(seq)
		if !ok {
			break
		}
		record, ok := s.l.Peek(r.Off)
		if !ok {
			break
		}
		if s.swap == betweenIndexAndInstalled {
			p.installed.Store(seq)
			s.at(betweenIndexAndInstalled)
		}
		s.apply(r.Flags.Kind(), r.bucket, seq, r.Off, record.Key, record.Deadline)
		if s.swap != betweenIndexAndInstalled {
			s.at(betweenIndexAndInstalled)
			p.installed.Store(seq)
		}
	}
	s.sweep()
}

// Installed is the seq of the last record that the index shows. Any goroutine.
func (s *Store) Installed() uint64 { return s.pending.installed.Load() }
