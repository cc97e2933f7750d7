// Package store is what a member knows of the keys of one shard: an index over the log, the versions behind it, and, at
// a replica, the writes that are known but may not be committed yet.
//
// A [Store] has one owner, the shard's loop, which alone writes: transactions at the primary ([Store.Begin]); at a
// replica the way of a record from the metadata ring to the index ([Store.Drain], [Store.Verify], [Store.Install]).
// Any goroutine may read ([Store.Read]) without waiting for the owner.
//
// The primary's index shows the newest version of a key, committed or not; older ones hang on it, and a reader takes the
// newest that is stable. A replica's index shows stable versions only, and what is above is in the table of pending
// records.
//
// No value leaves before the record's checksum, key and seq have been checked.
package store

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"whale/internal/plog"
	"whale/pmem"
)

// Role is what a member is to its shard.
type Role uint8

const (
	Primary Role = iota + 1
	Replica
)

// Verdict is how a read ended.
type Verdict uint8

const (
	Dirty   Verdict = iota // not to be answered from here and now: the loop has to resolve it
	Hit                    // the key has the value
	Miss                   // the key is absent
	Expired                // the key's deadline has passed: the primary has to remove it before anybody may say so
)

func (v Verdict) String() string {
	switch v {
	case Hit:
		return "hit"
	case Miss:
		return "miss"
	case Expired:
		return "expired"
	}
	return "dirty"
}

var (
	// ErrGroupTooLarge: a transaction has more writes than a quarter of the metadata ring.
	ErrGroupTooLarge = errors.New("store: too many writes in one transaction")
	// ErrDamaged: a record that was good once does not verify any more.
	ErrDamaged = errors.New("store: damaged record")
)

// Store is one member's keys of one shard. "The loop" is the one goroutine that owns it; methods say if others may call.
type Store struct {
	l    *plog.Log
	m    pmem.Memory
	g    plog.Geometry
	role Role
	fold func(hash uint64) uint64 // nil but in tests of equal hashes; never 0
	x    *index

	clock func() int64 // nil: no deadline passes

	hashes []uint64 // scratch of Prefetch

	keys       atomic.Int64  // live keys: of the newest state at P, of the installed one at a replica
	timed      atomic.Int64  // those of them that have a deadline
	stable     atomic.Uint64 // S as known here
	everywhere atomic.Uint64 // DW as known here
	flushed    atomic.Uint64 // seq of the newest flush-all that the index knows: what it has of lower seqs is absent
	flushedAt  atomic.Uint64 // its arena offset, stored first; those before it hang on its Prev
	sweeper    sweeper

	tx     Tx      // P
	alarms alarms  // P
	purged purges  // P: of what left the index
	graves []grave // P: tombstones in the index, in order of seqs, from firstGrave on
	grave  int

	pending  pending       // replica
	draining sync.Mutex    // replica: whoever moves slots from the ring to pending
	epoch    atomic.Uint32 // replica: of the slots that are accepted; 0: none. Changed under draining
	bad      Fault
	fault    error // replica: why a record that verifies was refused

	hooks
}

// hooks are set by tests only: stop is called where another goroutine might get in between, and swap turns the order of
// two steps around, which must be noticed.
type hooks struct {
	stop func(place)
	swap place
}

// place is where two steps stand in an order that readers depend on.
type place uint8

const (
	betweenPendingAndIndex   place = iota + 1 // a reader looks at pending first
	betweenIndexAndInstalled                  // the index shows a record before it leaves pending
	betweenPendingAndDrained                  // a record is pending before drained covers it
	duringLookup                              // a miss counts only if the index has not changed since
	betweenFlushAndChain                      // a flush-all counts only if it is pending after the chain was walked
	duringLookAtSlot                          // no slot is there only if nobody has drained it since
)

func (h *hooks) at(p place) {
	if h.stop != nil {
		h.stop(p)
	}
}

// New makes a store on an open log. Rebuild has to follow before anything else.
func New(l *plog.Log, role Role) *Store {
	s := &Store{l: l, m: l.Memory(), g: l.Geometry(), role: role}
	s.tx.s = s
	if role == Replica {
		s.pending.init(s.g.RingSlots)
	}
	return s
}

// newFolded makes a store in which keys whose hashes fold makes equal have equal hashes.
func newFolded(l *plog.Log, role Role, fold func(uint64) uint64) *Store {
	s := New(l, role)
	s.fold = fold
	return s
}

// Rebuild recovers the log and makes the index from it. At a replica everything in the log counts as drained, verified and
// installed afterwards, and slots are accepted after SetEpoch. The loop, while nobody reads.
func (s *Store) Rebuild() (plog.Recovery, error) {
	if limit := uint64(8) << offsetBits; s.g.ArenaSize() > limit {
		return plog.Recovery{}, fmt.Errorf("store: %s: an arena of %d bytes: the index reaches %d; use more shards", s.l.Name(), s.g.ArenaSize(), limit)
	}
	x, err := newIndex(s.g.ArenaSize() / plog.RecordHeaderSize)
	if err != nil {
		return plog.Recovery{}, err
	}
	s.x = x
	s.keys.Store(0)
	s.timed.Store(0)
	s.flushed.Store(0)
	s.flushedAt.Store(0)
	s.sweeper = sweeper{}
	s.graves, s.grave = s.graves[:0], 0
	s.alarms, s.purged = nil, purges{}
	recovery, err := s.l.Recover(func(r plog.Record, rec plog.Rec) {
		s.apply(rec.Flags.Kind(), s.folded(rec.Hash), rec.Seq, rec.Off, r.Key, r.Deadline)
	})
	if err != nil {
		return recovery, err
	}
	s.purged.floor = s.l.End()
	if s.role == Replica {
		s.draining.Lock()
		s.epoch.Store(0)
		s.pending.reset(s.l.End())
		s.draining.Unlock()
	}
	return recovery, nil
}

// SetStable raises S as it is known here; a lower one is ignored. Any goroutine.
func (s *Store) SetStable(seq uint64) { raise(&s.stable, seq) }

// Stable is S as it is known here. Any goroutine.
func (s *Store) Stable() uint64 { return s.stable.Load() }

// ResetStable sets S at a view change, be it lower. The loop, while no slots of an earlier epoch can be drained any more.
func (s *Store) ResetStable(seq uint64) { s.stable.Store(seq) }

// DW is the highest "everywhere" that slots and calls of Everywhere brought. Any goroutine.
func (s *Store) DW() uint64 { return s.everywhere.Load() }

// Keys is the number of live keys: of the newest state at P, of what is installed at a replica. Any goroutine.
func (s *Store) Keys() int64 { return s.keys.Load() }

func raise(word *atomic.Uint64, v uint64) {
	for {
		old := word.Load()
		if v <= old || word.CompareAndSwap(old, v) {
			return
		}
	}
}

// Stats are figures for people.
type Stats struct {
	Keys       int64
	Entries    uint64 // in the index: keys, tombstones, and what is not swept yet
	IndexBytes uint64
	Pending    uint64 // records that are drained and not installed
	Graves     uint64 // tombstones in the index
	Alarms     uint64 // (P) of keys with deadlines
	Sweeping   bool   // a flush-all is being swept out of the index
}

// Stats may be called by the loop.
func (s *Store) Stats() Stats {
	return Stats{
		Keys:       s.Keys(),
		Entries:    s.x.entries,
		IndexBytes: s.x.bytes(),
		Pending:    s.pending.drained.Load() - s.pending.installed.Load(),
		Graves:     uint64(len(s.graves) - s.grave),
		Alarms:     uint64(len(s.alarms)),
		Sweeping:   s.sweeper.below != 0 || s.sweepable() > s.sweeper.done,
	}
}

func (s *Store) folded(hash uint64) uint64 {
	if s.fold != nil && hash != 0 {
		return s.fold(hash)
	}
	return hash
}

func (s *Store) hashKey(key []byte) uint64 { return s.folded(plog.HashKey(key)) }

// lookup finds the key's entry. Any goroutine; a reader believes in "not found" only if the index is unchanged since.
func (s *Store) lookup(hash uint64, key []byte) (p probe, offset uint64, r plog.Record, found bool) {
	p = s.x.probe(hash)
	s.at(duringLookup)
	for offset = p.next(); offset != 0; offset = p.next() {
		// Equal hashes are not equal keys.
		if r, ok := s.l.Peek(offset); ok && bytes.Equal(r.Key, key) {
			return p, offset, r, true
		}
	}
	return p, 0, plog.Record{}, false
}

// unchanged says whether no entry may have been missed since the index had that generation.
func (s *Store) unchanged(generation uint64) bool {
	return s.x.generation.Load() == generation || s.swap == duringLookup
}

// apply lets the index show a record that is stable, or will be before anybody reads: the next in order. The loop.
func (s *Store) apply(kind plog.Kind, hash, seq, offset uint64, key []byte, deadline int64) {
	if kind == plog.FlushAll {
		s.flushedAt.Store(offset)
		s.flushed.Store(seq)
		s.keys.Store(0)
		s.timed.Store(0)
		s.alarms = nil
		return
	}
	p, _, old, found := s.lookup(hash, key)
	live := found && s.live(&old)
	s.setAlarm(deadline, offset, old, found)
	s.countTimed(live && old.Deadline != 0, deadline != 0)
	switch {
	case kind == plog.Tombstone && found:
		p.remove()
	case kind == plog.Put && found:
		p.replace(offset)
	case kind == plog.Put:
		s.x.insert(hash, offset)
	}
	if kind == plog.Put && !live {
		s.keys.Add(1)
	}
	if kind == plog.Tombstone && live {
		s.keys.Add(-1)
	}
}

// sweeper takes out of the index what a flush-all made absent, one bucket at a time.
type sweeper struct {
	below  uint64 // entries of lower seqs go; 0: nothing to do
	cursor uint64
	done   uint64 // the flush-all up to which all is swept
}

// sweepable is the newest flush-all before which nobody reads any more.
func (s *Store) sweepable() uint64 {
	if s.role == Replica {
		return s.flushed.Load()
	}
	return s.flushedBy(s.everywhere.Load())
}

// sweep does one step.
func (s *Store) sweep() {
	w := &s.sweeper
	if w.below == 0 {
		flush := s.sweepable()
		if flush <= w.done {
			return
		}
		w.below, w.cursor = flush, 0
	}
	w.cursor = s.x.scan(w.cursor, func(offset uint64) bool {
		r, ok := s.l.Peek(offset)
		if !ok || r.Seq >= w.below {
			return true
		}
		if r.Kind == plog.Put {
			s.purged.note(s.hashKey(r.Key), s.flushAfter(r.Seq))
		}
		return false
	})
	if w.cursor == 0 {
		w.done, w.below = w.below, 0
	}
}

func errEpochEnd(e uint32, drained, installed, last uint64) error {
	return fmt.Errorf("store: epoch %d begins behind seq %d, but the index has the records up to %d, and slots are drained up to %d: "+
		"cut the log and Rebuild", e, drained, installed, last)
}

func (s *Store) damaged(offset uint64, err error) error {
	return fmt.Errorf("%w: %s, arena offset %d: %w; restart the member with a copy of the file from another one", ErrDamaged, s.l.Name(), offset, err)
}
