package store

import (
	"fmt"

	"whale/internal/plog"
)

// Tx is one command's view of the newest state, stable or not, and its writes. A store has one, which Begin starts anew;
// it is of the loop. Reads see the transaction's own writes. Nothing changes before Commit.
type Tx struct {
	s      *Store
	writes []write // a key once at most, in order of first writing; a flush-all comes first
	own    ownWrites
	flush  bool  // writes[0] is a flush-all
	delta  int64 // change of the number of keys
	seen   uint64
	now    int64 // of all deadlines that the transaction meets; 0: none yet
	err    error

	sizes  []uint64 // scratch of Commit
	record plog.Record
}

type write struct {
	key, value []byte
	hash       uint64
	prev       uint64 // offset of the key's version in the index, 0: none
	deadline   int64
	kind       plog.Kind
	timed      bool // the key's version in the index is there and has a deadline
}

func (w *write) lives() bool { return w.kind == plog.Put }

// Begin starts a transaction on the store's one Tx; what was not committed is forgotten.
func (s *Store) Begin() *Tx {
	tx := &s.tx
	tx.clear()
	tx.flush, tx.delta, tx.seen, tx.now, tx.err = false, 0, 0, 0, nil
	return tx
}

// clear forgets the writes; they must not keep the callers' memory alive.
func (tx *Tx) clear() {
	clear(tx.writes)
	tx.writes = tx.writes[:0]
	tx.own.clear()
}

// Get returns the newest value. It aliases the arena or the slice given to Set, and is valid until the next Begin. When
// a record is damaged the key reads as absent and Err tells.
//
// A key whose deadline has passed is removed by the transaction that meets it, in Get, Deadline or Del: key must stay as
// it is until Commit.
func (tx *Tx) Get(key []byte) (value []byte, ok bool) {
	hash := tx.s.hashKey(key)
	if w := tx.find(hash, key); w != nil {
		return w.value, w.lives()
	}
	offset, _, live := tx.current(hash, key)
	if !live {
		return nil, false
	}
	r, _, err := tx.s.l.Record(offset)
	if err != nil {
		tx.err = tx.s.damaged(offset, err)
		return nil, false
	}
	return r.Value, true
}

// Deadline is when the key expires, in unix ms; 0: never. False: the key is not there.
func (tx *Tx) Deadline(key []byte) (at int64, ok bool) {
	hash := tx.s.hashKey(key)
	if w := tx.find(hash, key); w != nil {
		return w.deadline, w.lives()
	}
	_, at, ok = tx.current(hash, key)
	return at, ok
}

// Set writes; the key does not expire. Both slices must stay as they are until Commit.
func (tx *Tx) Set(key, value []byte) { tx.SetUntil(key, value, 0) }

// SetUntil is Set of a key that expires at deadline, in unix ms; 0: never.
func (tx *Tx) SetUntil(key, value []byte, deadline int64) {
	hash := tx.s.hashKey(key)
	if w := tx.find(hash, key); w != nil {
		if w.kind == plog.Tombstone {
			tx.delta++
		}
		w.kind, w.value, w.deadline = plog.Put, value, deadline
		return
	}
	seen := tx.seen
	offset, old, live := tx.newest(hash, key)
	tx.seen = seen // an overwritten version is not revealed
	if !live {
		tx.delta++
	}
	tx.add(write{key: key, value: value, hash: hash, prev: offset, deadline: deadline, kind: plog.Put, timed: live && old != 0})
}

// Del removes the key and says whether it was there. The slice must stay as it is until Commit.
func (tx *Tx) Del(key []byte) bool {
	hash := tx.s.hashKey(key)
	if w := tx.find(hash, key); w != nil {
		if w.kind == plog.Tombstone {
			return false
		}
		w.kind, w.value, w.deadline = plog.Tombstone, nil, 0
		tx.delta--
		return true
	}
	offset, deadline, live := tx.current(hash, key)
	if live {
		tx.bury(key, hash, offset, deadline)
	}
	return live
}

// bury removes a key that is live in the index.
func (tx *Tx) bury(key []byte, hash, offset uint64, deadline int64) {
	tx.delta--
	tx.add(write{key: key, hash: hash, prev: offset, kind: plog.Tombstone, timed: deadline != 0})
}

// FlushAll removes every key, those that this transaction has set included.
func (tx *Tx) FlushAll() {
	tx.clear()
	tx.flush = true
	tx.delta = -tx.s.keys.Load()
	tx.writes = append(tx.writes, write{kind: plog.FlushAll, prev: tx.s.flushedAt.Load()})
}

// Len is the number of keys. It reveals every write, so Seen is the log's end afterwards.
func (tx *Tx) Len() int {
	tx.see(tx.s.l.End())
	return int(tx.s.keys.Load() + tx.delta)
}

// Seen is the highest seq of what the transaction has read: versions, tombstones, flush-alls. What it answers must not
// be known to anybody before S covers it.
func (tx *Tx) Seen() uint64 { return tx.seen }

// Writes is the number of records that Commit would append.
func (tx *Tx) Writes() int { return len(tx.writes) }

// Err tells why the transaction can only fail, and what it read may be wrong: a damaged record, or too many writes.
func (tx *Tx) Err() error { return tx.err }

func (tx *Tx) see(seq uint64) { tx.seen = max(tx.seen, seq) }

// current is newest for who wants to know whether the key is there: if it has expired, it goes.
func (tx *Tx) current(hash uint64, key []byte) (offset uint64, deadline int64, live bool) {
	offset, deadline, live = tx.newest(hash, key)
	if live && tx.passed(deadline) {
		tx.bury(key, hash, offset, deadline)
		live = false
	}
	return offset, deadline, live
}

// passed is Store.passed with one time for the whole transaction.
func (tx *Tx) passed(deadline int64) bool {
	if deadline != 0 && tx.now == 0 && tx.s.clock != nil {
		tx.now = tx.s.clock()
	}
	return deadline != 0 && tx.s.reached(deadline, tx.now)
}

// newest looks behind the transaction's own writes: the key's entry in the index, 0 if it has none, its deadline, and
// whether the key exists, expired or not.
func (tx *Tx) newest(hash uint64, key []byte) (offset uint64, deadline int64, live bool) {
	s := tx.s
	_, offset, r, found := s.lookup(hash, key)
	if tx.flush {
		return offset, 0, false
	}
	flushed := s.flushed.Load()
	if !found || r.Seq < flushed {
		tx.see(flushed)
		return offset, 0, false
	}
	tx.see(r.Seq)
	return offset, r.Deadline, r.Kind == plog.Put
}

func (tx *Tx) find(hash uint64, key []byte) *write {
	return tx.own.find(tx.writes, hash, key)
}

func (tx *Tx) add(w write) {
	if limit := tx.limit(); len(tx.writes) == limit {
		tx.err = fmt.Errorf("%w: more than %d", ErrGroupTooLarge, limit)
		return
	}
	tx.writes = append(tx.writes, w)
	tx.own.add(tx.writes)
}

// limit is the largest group: what is appended must fit into the ring beside what is on its way.
func (tx *Tx) limit() int { return int(tx.s.g.RingSlots / 4) }

// Commit appends the writes to the log as one group, lets the index show them, and appends what names them to dst. They
// are not durable yet: the log's Commit makes them so. The transaction is empty afterwards.
//
// On an error neither log nor index have changed, and dst is returned as it was: plog.ErrFull, plog.ErrTooLarge,
// ErrGroupTooLarge, ErrDamaged; plog.ErrNoEpoch before the epoch has its entry. What only removes may use the log's
// reserve.
func (tx *Tx) Commit(dst []plog.Rec) ([]plog.Rec, error) {
	if err := tx.check(); err != nil {
		return dst, err
	}
	s, from, start := tx.s, len(dst), tx.s.l.End()
	for i := range tx.writes {
		w := &tx.writes[i]
		tx.record = plog.Record{
			Kind: w.kind, GroupEnd: i == len(tx.writes)-1, Seq: start + uint64(i) + 1,
			Prev: w.prev, Deadline: w.deadline, Key: w.key, Value: w.value,
		}
		rec, err := s.l.Append(&tx.record)
		if err != nil {
			return dst[:from], tx.undo(start, err)
		}
		dst = append(dst, rec)
	}
	tx.record = plog.Record{}
	for i := range tx.writes {
		s.show(&tx.writes[i], dst[from+i])
	}
	s.keys.Add(tx.delta)
	tx.clear()
	tx.flush, tx.delta = false, 0
	return dst, nil
}

// check says whether the writes are possible, all of them.
func (tx *Tx) check() error {
	if tx.err != nil {
		return tx.err
	}
	g := tx.s.g
	tx.sizes = tx.sizes[:0]
	removes := true
	for i := range tx.writes {
		w := &tx.writes[i]
		n := plog.RecordSize(len(w.key), len(w.value))
		if n > g.MaxRecord() {
			return fmt.Errorf("%w: %d bytes with its key and header, at most %d", plog.ErrTooLarge, n, g.MaxRecord())
		}
		removes = removes && w.kind != plog.Put
		tx.sizes = append(tx.sizes, n)
	}
	if !tx.s.l.Fits(tx.sizes, removes) {
		return plog.ErrFull
	}
	return nil
}

// undo takes back what was appended of a group. Only the first Append can fail, as the log has said that all fit; should
// another one fail all the same, the log is cut, after which it takes nothing more before a new epoch.
func (tx *Tx) undo(start uint64, err error) error {
	if tx.s.l.End() == start {
		return err
	}
	if cut := tx.s.l.CutTo(start); cut != nil {
		return fmt.Errorf("%w; taking the group back: %w", err, cut)
	}
	return err
}
