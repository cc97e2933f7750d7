package sim

import (
	"math"
	"strconv"
	"time"
)

// A key with a deadline goes when P's wall clock has reached it: not before, and not long after. P's wall clock is that of
// the simulation, which faults set forward and back.

// life is what is known of a value with a deadline.
type life struct {
	px       int64 // what the client asked for, in ms
	born     int64 // when its record was first seen, in virtual time; 0: never
	deadline int64 // in its record
}

// setting is P's wall clock from some moment on: what it showed at time 0, had it always gone like this.
type setting struct{ from, wall int64 }

const (
	outlives  = int64(20e6) // a key may be read so long after its deadline, and 20 ways longer, while all is well
	clockJump = int64(1e9)  // by how much a wall clock is set at most, and so how late a timer may be that was set before
)

// asked notes that a value is about to be written with a deadline.
func (k *checker) asked(value, px int) {
	if k != nil {
		k.lives[value] = &life{px: int64(px)}
	}
}

// set follows P's wall clock when a fault sets it.
func (k *checker) set(p *member, now int64) {
	if k != nil && p.id == 0 {
		k.settings = append(k.settings, setting{from: now, wall: p.clock.wall})
	}
}

// born follows a record that P has just appended, or found when it started: a value with a deadline has the deadline that
// its client asked for, and only what has reached its deadline by P's clock is removed.
func (k *checker) born(p *member, image []byte, rec *record) {
	old := rec.seq <= k.found // nobody knows at which moment
	wall := (&server{r: k.r, m: p}).Now()
	if l := k.lives[rec.value]; l != nil && rec.value != 0 {
		l.born, l.deadline = k.r.now, rec.deadline
		if want := wall + l.px; rec.deadline != want && !old {
			k.r.fail("Expiry", "value %d has the deadline %d, but %d ms after P's clock, which shows %d, is %d", rec.value, rec.deadline, l.px, wall, want)
		}
	}
	if rec.kind != tombstone || rec.prev == 0 || old {
		return
	}
	before := image[k.f.arena()+rec.prev:]
	keyLen, valLen := uint64(le.Uint32(before[20:])), uint64(le.Uint32(before[24:]))
	if value := valueNumber(before[lineBytes+keyLen : lineBytes+keyLen+valLen]); k.lives[value] == nil {
		return // it was deleted
	}
	if deadline := int64(le.Uint64(before[40:])); deadline == 0 || deadline > wall {
		k.r.fail("Expiry", "P removes %s, whose deadline is %d, when its clock shows %d", before[lineBytes:lineBytes+keyLen], deadline, wall)
	}
}

// over is the first moment at which P's clock has reached the deadline of a value since that was written.
func (k *checker) over(l *life) int64 {
	clock := &k.r.members[0].clock
	for i, s := range k.settings {
		at := max(clock.global((l.deadline-s.wall)*1e6), s.from, l.born)
		if i+1 == len(k.settings) || at < k.settings[i+1].from {
			return at
		}
	}
	return math.MaxInt64
}

// mayBeGone says whether an operation may have found a value with a deadline gone.
func (o *op) mayBeGone(value string) bool {
	k := o.c.r.check
	l := k.lives[valueNumber(value)]
	return l != nil && l.born != 0 && k.over(l) <= o.answered
}

// outlived checks a value that was read: if it has a deadline, that has not passed long ago, unless something was wrong.
func (k *checker) outlived(o *op, value int) {
	l := k.lives[value]
	if l == nil || l.born == 0 || k.full() {
		return
	}
	since := k.over(l)
	if k.r.troubles > 0 || k.r.healed >= since || k.settings[len(k.settings)-1].from > max(0, since-clockJump) || since == math.MaxInt64 {
		return
	}
	if late := o.at - since; late > k.late() {
		k.r.fail("Expiry", "%s at %s answers value %d, %v after P's clock has reached its deadline", o, o.on.name, value, time.Duration(late))
	}
}

// late is how long after its deadline a key may still be there.
func (k *checker) late() int64 { return outlives + 20*int64(k.r.c.Latency) }

// full says whether there may be no room for a tombstone.
func (k *checker) full() bool { return k.tail+64<<10 > k.f.segment*k.f.segments }

// expired is when all keys with deadlines must be gone, as far as is known now.
func (k *checker) expired() (at int64) {
	if k == nil {
		return 0
	}
	// By the clock as it goes now: where P could not write when a deadline passed first, and the clock was set back then, the
	// key lives again.
	last := k.settings[len(k.settings)-1]
	for _, l := range k.lives {
		if l.born != 0 {
			at = max(at, max(k.r.members[0].clock.global((l.deadline-last.wall)*1e6), last.from, l.born)+k.late())
		}
	}
	if at > 0 && last.from > 0 {
		at += clockJump
	}
	return at
}

// none checks that P has no key with a deadline any more, when all deadlines have passed.
func (k *checker) none() {
	if n := k.r.members[0].st.Timed(); n > 0 && !k.full() {
		k.r.fail("Expiry", "all deadlines have passed long ago, and P has %s keys with deadlines", strconv.FormatInt(n, 10))
	}
}
