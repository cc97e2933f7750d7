package store

import "whale/internal/plog"

// A record may have a deadline. A key whose deadline has passed is still there: it goes when a tombstone is committed, as
// by DEL. The primary alone writes that tombstone, in the transaction that meets the key, or by itself when the alarm of
// the key is due. Whoever else finds a passed deadline ([Expired]) asks the primary.

// SetClock gives the store the wall clock: unix time in ms, called from any goroutine, and only where a record has a
// deadline. Without it no deadline ever passes. Before anybody reads.
func (s *Store) SetClock(now func() int64) { s.clock = now }

// passed says whether a record's deadline is over.
func (s *Store) passed(deadline int64) bool {
	return deadline != 0 && s.clock != nil && s.reached(deadline, s.clock())
}

// reached says whether a clock that shows now has reached a deadline.
func (s *Store) reached(deadline, now int64) bool {
	switch s.bad {
	case FaultEarlyExpiry:
		now += 3
	case FaultNoExpiry:
		return false
	}
	return deadline <= now
}

// alarm says when to look at the key of the record at offset.
type alarm struct {
	at     int64 // unix ms
	offset uint64
}

// alarms is a binary heap, the earliest first. Every live key with a deadline has an alarm that is no later. There may be
// more: whoever takes one out looks whether it still means anything.
type alarms []alarm

func (h *alarms) push(a alarm) {
	*h = append(*h, a)
	q := *h
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if q[up].at <= q[i].at {
			break
		}
		q[up], q[i] = q[i], q[up]
		i = up
	}
}

// replace puts a in the place of the first.
func (h alarms) replace(a alarm) {
	i := 0
	h[0] = a
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].at < h[least].at {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

func (h *alarms) pop() {
	last := len(*h) - 1
	moved := (*h)[last]
	*h = (*h)[:last]
	if last > 0 {
		h.replace(moved)
	}
}

// setAlarm follows a new version with a deadline; old is what it replaces, if found. A key whose deadline is only put off
// keeps the alarm that it has, so that refreshing a key again and again adds nothing.
func (s *Store) setAlarm(deadline int64, offset uint64, old plog.Record, found bool) {
	if deadline == 0 || s.role != Primary {
		return
	}
	if found && s.live(&old) && old.Deadline != 0 && old.Deadline <= deadline {
		return
	}
	s.alarms.push(alarm{deadline, offset})
}

// countTimed follows a change of a key: did it have a deadline before, and has it one now?
func (s *Store) countTimed(before, now bool) {
	if now && !before {
		s.timed.Add(1)
	} else if before && !now {
		s.timed.Add(-1)
	}
}

// Timed is how many of the keys have a deadline, as Keys counts them. Any goroutine.
func (s *Store) Timed() int64 { return s.timed.Load() }

// live says whether a key exists whose newest version is r.
func (s *Store) live(r *plog.Record) bool { return r.Kind == plog.Put && r.Seq > s.flushed.Load() }

// NextAlarm is when Overdue will be true at the earliest, in unix ms; 0: no key has a deadline. The loop, at P.
func (s *Store) NextAlarm() int64 {
	if len(s.alarms) == 0 {
		return 0
	}
	return s.alarms[0].at
}

// Overdue says whether there is work for Expire. The loop, at P.
func (s *Store) Overdue() bool { return s.passed(s.NextAlarm()) }

// Expire begins a transaction that looks at one alarm that is due: it removes the key, or nothing when the alarm means
// nothing any more. Needs Overdue, and is to be called until that is false. The loop, at P.
func (s *Store) Expire() *Tx {
	tx := s.Begin()
	r, ok := s.l.Peek(s.alarms[0].offset)
	if !ok {
		s.alarms.pop()
		return tx
	}
	hash := s.hashKey(r.Key)
	_, offset, newest, found := s.lookup(hash, r.Key)
	switch {
	case !found || !s.live(&newest) || newest.Deadline == 0:
		s.alarms.pop()
	case !s.passed(newest.Deadline):
		s.alarms.replace(alarm{newest.Deadline, offset})
	default:
		// The alarm goes when it is met again: if this is not committed, it is still needed.
		tx.bury(newest.Key, hash, offset, newest.Deadline)
	}
	return tx
}
