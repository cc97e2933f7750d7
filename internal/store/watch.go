package store

import "whale/internal/plog"

// Stamp names the state that the transaction sees, its own writes included: the seq of the log's end after its commit. It
// reveals every write, so Seen is the log's end afterwards.
func (tx *Tx) Stamp() uint64 {
	end := tx.s.l.End()
	tx.see(end)
	return end + uint64(len(tx.writes))
}

// Changed says whether the key's state is another one than at the stamp that an earlier transaction gave: it was written,
// removed, or has expired since; a deadline that has passed counts as the change that it is about to be. It may say so of
// a key that was and is absent, never the other way round.
func (tx *Tx) Changed(key []byte, stamp uint64) bool {
	s := tx.s
	hash := s.hashKey(key)
	last := s.purged.last(hash)
	if _, _, r, found := s.lookup(hash, key); found {
		last = r.Seq
		if r.Kind == plog.Put && r.Seq < s.flushed.Load() {
			last = s.flushAfter(r.Seq)
		}
		if s.live(&r) && tx.passed(r.Deadline) {
			return true
		}
	}
	tx.see(min(last, s.l.End()))
	return last > stamp
}

// flushAfter is the seq of the first flush-all behind seq, of which there is one.
func (s *Store) flushAfter(seq uint64) uint64 {
	first := s.flushed.Load()
	for offset := s.flushedAt.Load(); offset != 0; {
		r, ok := s.l.Peek(offset)
		if !ok || r.Seq < seq {
			break
		}
		first, offset = r.Seq, r.Prev
	}
	return first
}

// purges knows for keys that have no entry in the primary's index since when: by a few bits of their hashes, so that one
// key's removal may be taken for another's.
type purges struct {
	floor uint64 // what was removed up to the last Rebuild is not known
	seqs  [4096]uint64
}

func (p *purges) of(hash uint64) *uint64 { return &p.seqs[hash%uint64(len(p.seqs))] }

// note follows the removal of an entry that made the key absent at seq.
func (p *purges) note(hash, seq uint64) {
	if at := p.of(hash); *at < seq {
		*at = seq
	}
}

func (p *purges) last(hash uint64) uint64 { return max(p.floor, *p.of(hash)) }
