package store

import (
	"bytes"
	"runtime"

	"whale/internal/plog"
)

// Version is what is known of a key besides its value.
type Version struct {
	Seq      uint64 // of the record; on a miss of what made the key absent, 0 if it is not known
	Deadline int64  // unix ms at which the key expires, 0: never
}

// Read appends the key's value to dst and returns it with the version that was answered. Any goroutine; the caller checks
// the lease afterwards, with the value in hand. On all but Hit dst is returned as it was.
//
// At P it is the newest version up to S, and the read takes effect when S is loaded. At a replica the ring is drained
// first, and then takes effect, if the newest version that is known there is known to be stable too; otherwise, or if
// its bytes are not here, the answer is Dirty. Damaged records are Dirty as well.
func (s *Store) Read(key, dst []byte) (value []byte, v Verdict, at Version) {
	if s.role == Primary {
		value, v, at = s.readPrimary(key, dst)
	} else if s.bad == FaultNoDrain || s.drain() {
		value, v, at = s.readReplica(key, dst)
	} else {
		value = dst
	}
	runtime.KeepAlive(s) // the index's memory goes with it
	return value, v, at
}

func (s *Store) readPrimary(key, dst []byte) ([]byte, Verdict, Version) {
	hash := s.hashKey(key)
	for {
		before := s.x.generation.Load()
		stable := s.stable.Load()
		_, offset, r, found := s.lookup(hash, key)
		for found && r.Seq > stable && r.Prev != 0 {
			offset = r.Prev
			if r, found = s.l.Peek(offset); !found {
				return dst, Dirty, Version{}
			}
		}
		switch {
		case found && r.Seq <= stable:
			if flushed := s.flushedBy(stable); r.Seq < flushed {
				return dst, Miss, Version{Seq: flushed}
			}
			return s.answer(key, dst, offset)
		case s.unchanged(before):
			return dst, Miss, Version{}
		}
		// The entry may have been moved, or been a tombstone that left the index since S was loaded.
	}
}

func (s *Store) readReplica(key, dst []byte) ([]byte, Verdict, Version) {
	hash := s.hashKey(key)
	p := &s.pending
	for {
		if s.swap == betweenPendingAndIndex {
			if _, offset, r, found := s.lookup(hash, key); found && r.Seq >= s.flushed.Load() {
				s.at(betweenPendingAndIndex)
				if _, known := p.newest(hash); !known {
					return s.answer(key, dst, offset)
				}
			}
		}
		if s.bad == FaultNoPending {
			value, v, at, _ := s.readIndex(hash, key, dst)
			return value, v, at
		}
		// Most often nothing is pending. Drained first: what was drained before this read began is installed then.
		if drained := p.drained.Load(); p.installed.Load() >= drained {
			value, v, at, ok := s.readIndex(hash, key, dst)
			if ok {
				return value, v, at
			}
			continue
		}
		flush, flushing := p.newest(0)
		s.at(betweenFlushAndChain)
		for r, ok := p.newest(hash); ok && r.Seq > flush.Seq; r, ok = p.older(r) {
			if r.bucket != hash {
				continue
			}
			// Another key of the same hash cannot be told from this one without the bytes.
			if r.Seq > s.stable.Load() || !s.l.Verify(r.Rec) {
				return dst, Dirty, Version{}
			}
			if record, ok := s.l.Peek(r.Off); ok && bytes.Equal(record.Key, key) {
				return s.give(dst, &record)
			}
		}
		// Once the flush-all is installed, a version behind it may be too, and be in the index only.
		if flushing && (flush.Seq > p.installed.Load() || s.swap == betweenFlushAndChain) {
			if flush.Seq > s.stable.Load() {
				return dst, Dirty, Version{}
			}
			return dst, Miss, Version{Seq: flush.Seq}
		}
		s.at(betweenPendingAndIndex)
		value, v, at, ok := s.readIndex(hash, key, dst)
		if ok {
			return value, v, at
		}
	}
}

// readIndex answers from a replica's index. False: it changed meanwhile, so that an entry may have been missed.
func (s *Store) readIndex(hash uint64, key, dst []byte) (value []byte, v Verdict, at Version, ok bool) {
	before := s.x.generation.Load()
	_, offset, r, found := s.lookup(hash, key)
	flushed := s.flushed.Load()
	if found && r.Seq > flushed {
		value, v, at = s.answer(key, dst, offset)
		return value, v, at, true
	}
	return dst, Miss, Version{Seq: flushed}, found || s.unchanged(before)
}

// ReadAt is Read at a replica for the loop, when S as known here is fresh: it was read from P, and the ring was drained
// since. The answer is the greatest version up to S; when its bytes are not here it is Dirty, and need names the record to
// fetch. Dirty without need (Seq 0): not all slots up to S are drained, because the table is full; Verify and Install make
// room.
func (s *Store) ReadAt(key, dst []byte) (value []byte, v Verdict, at Version, need plog.Rec) {
	if s.role == Primary {
		value, v, at = s.Read(key, dst)
		return value, v, at, plog.Rec{}
	}
	hash := s.hashKey(key)
	p := &s.pending
	stable := s.stable.Load()
	if p.drained.Load() < stable {
		return dst, Dirty, Version{}, plog.Rec{}
	}
	flush, flushing := p.newest(0)
	for flushing && flush.Seq > stable {
		flush, flushing = p.older(flush)
	}
	for r, ok := p.newest(hash); ok && r.Seq > flush.Seq; r, ok = p.older(r) {
		if r.bucket != hash || r.Seq > stable {
			continue
		}
		if !s.here(&r) {
			if s.bad == FaultOlder {
				continue
			}
			return dst, Dirty, Version{}, r.Rec
		}
		if record, ok := s.l.Peek(r.Off); ok && bytes.Equal(record.Key, key) {
			value, v, at = s.answer(key, dst, r.Off)
			return value, v, at, plog.Rec{}
		}
	}
	if flushing {
		return dst, Miss, Version{}, plog.Rec{}
	}
	value, v, at, _ = s.readIndex(hash, key, dst) // the loop alone changes the index
	return value, v, at, plog.Rec{}
}

// answer checks the record at offset, which must be the key's, and gives its value.
func (s *Store) answer(key, dst []byte, offset uint64) ([]byte, Verdict, Version) {
	r, _, err := s.l.Record(offset)
	if err != nil || !bytes.Equal(r.Key, key) {
		return dst, Dirty, Version{}
	}
	return s.give(dst, &r)
}

// give appends the value of a record that has been checked.
func (s *Store) give(dst []byte, r *plog.Record) ([]byte, Verdict, Version) {
	at := Version{Seq: r.Seq, Deadline: r.Deadline}
	switch {
	case r.Kind != plog.Put:
		return dst, Miss, at
	case s.passed(r.Deadline):
		return dst, Expired, at
	}
	return append(dst, r.Value...), Hit, at
}
