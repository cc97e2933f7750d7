package store

import "whale/internal/plog"

// grave is a tombstone that the primary's index shows.
type grave struct{ seq, hash, offset uint64 }

// show lets the primary's index show a write of a transaction that was appended.
func (s *Store) show(w *write, r plog.Rec) {
	if w.kind == plog.FlushAll {
		s.flushedAt.Store(r.Off)
		s.flushed.Store(r.Seq)
		s.alarms = nil
		s.timed.Store(0)
		return
	}
	s.countTimed(w.timed, w.deadline != 0)
	if w.deadline != 0 {
		var old plog.Record
		found := false
		if w.prev != 0 {
			old, found = s.l.Peek(w.prev)
		}
		s.setAlarm(w.deadline, r.Off, old, found)
	}
	if w.prev == 0 || !s.x.swap(w.hash, w.prev, r.Off) {
		s.x.insert(w.hash, r.Off)
	}
	if w.kind == plog.Tombstone {
		s.graves = append(s.graves, grave{r.Seq, w.hash, r.Off})
	}
}

// Everywhere raises DW, at P to what every member has durably and has forwarded: tombstones up to it leave the index. Of
// a flush-all that it covers (at a replica: that is installed) one small step is done, so that calls have to go on while
// Stats.Sweeping. The loop.
func (s *Store) Everywhere(dw uint64) {
	raise(&s.everywhere, dw)
	dw = s.everywhere.Load()
	for ; s.grave < len(s.graves) && s.graves[s.grave].seq <= dw && s.bad != FaultKeepTombstones; s.grave++ {
		g := s.graves[s.grave]
		if s.x.drop(g.hash, g.offset) { // not if a newer version took its place
			s.purged.note(g.hash, g.seq)
		}
	}
	if s.grave > len(s.graves)/2 {
		n := copy(s.graves, s.graves[s.grave:])
		s.graves, s.grave = s.graves[:n], 0
	}
	s.sweep()
}

// flushedBy is the seq of the newest flush-all up to limit, 0 if there is none. Any goroutine, at P: there a flush-all
// is known here before S, or any limit that a reader may have, reaches it.
func (s *Store) flushedBy(limit uint64) uint64 {
	if newest := s.flushed.Load(); newest <= limit {
		return newest
	}
	for offset := s.flushedAt.Load(); offset != 0; {
		r, ok := s.l.Peek(offset)
		if !ok {
			break
		}
		if r.Seq <= limit {
			return r.Seq
		}
		offset = r.Prev
	}
	return 0
}
