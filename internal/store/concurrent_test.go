package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"whale/internal/plog"
)

// history is what readers are checked against: the events of each key, numbered, of which some are "absent".
type history struct {
	keys   [][]byte
	absent [][]atomic.Bool // by key and event
	issued []uint64        // the writer's own: newest event
	about  []atomic.Uint64 // newest event that S may have reached: raised before S
	stable []atomic.Uint64 // newest event that S has reached: raised after S
}

func newHistory(keys, events int) *history {
	h := &history{
		keys: make([][]byte, keys), absent: make([][]atomic.Bool, keys), issued: make([]uint64, keys),
		about: make([]atomic.Uint64, keys), stable: make([]atomic.Uint64, keys),
	}
	for k := range keys {
		h.keys[k] = []byte(numbered("key", k))
		h.absent[k] = make([]atomic.Bool, events)
		h.absent[k][0].Store(true)
	}
	return h
}

func (h *history) event(k int, absent bool) []byte {
	h.issued[k]++
	h.absent[k][h.issued[k]].Store(absent)
	return fmt.Appendf(nil, "%d:%d:%s", k, h.issued[k], bytes.Repeat([]byte{'.'}, int(h.issued[k]%200)))
}

// move lets S pass everything that was issued.
func (h *history) move(setStable func()) {
	for k, n := range h.issued {
		h.about[k].Store(n)
	}
	setStable()
	for k, n := range h.issued {
		h.stable[k].Store(n)
	}
}

// check reads a key and says what is wrong with the answer: it has to be a version that was the stable one at some moment
// of the read.
func (h *history) check(s *Store, k int, dst []byte) ([]byte, Verdict, error) {
	low := h.stable[k].Load()
	value, v, _ := s.Read(h.keys[k], dst[:0])
	high := h.about[k].Load()
	switch v {
	case Hit:
		fields := bytes.SplitN(value, []byte(":"), 3)
		n, err := strconv.ParseUint(string(fields[1]), 10, 64)
		if err != nil || string(fields[0]) != strconv.Itoa(k) || len(fields[2]) != int(n%200) {
			return value, v, fmt.Errorf("key %d reads %q", k, value)
		}
		if n < low || n > high || h.absent[k][n].Load() {
			return value, v, fmt.Errorf("key %d reads event %d, stable were %d to %d", k, n, low, high)
		}
	case Miss:
		for n := low; n <= high; n++ {
			if h.absent[k][n].Load() {
				return value, v, nil
			}
		}
		return value, v, fmt.Errorf("key %d is absent, but not so from event %d to %d", k, low, high)
	}
	return value, v, nil
}

// durable is what the replica reports to the primary.
func (r *member) durable() uint64 {
	_, seq := plog.SplitWord(r.l.Control().Durable())
	return seq
}

// The primary writes, slots and bytes go over, the replica's loop drains, verifies and installs, indexes divide and are
// swept, while readers at both look for stale and for unstable answers.
func TestReadersWhileEverythingMoves(t *testing.T) {
	t.Run("freely", func(t *testing.T) { readWhileEverythingMoves(t, nil) })
	t.Run("stopping where it matters", func(t *testing.T) {
		// Long stops in the middle of things are rare by nature; here they are not.
		var dice atomic.Uint64
		readWhileEverythingMoves(t, func(place) {
			for n := mix(dice.Add(1)); n%4 == 0; n /= 4 {
				runtime.Gosched()
			}
		})
	})
}

func readWhileEverythingMoves(t *testing.T, stop func(place)) {
	commands := 15_000
	if raceEnabled {
		commands = 1500
	}
	g := plog.Geometry{RingSlots: 256, SegmentSize: 64 << 10, Segments: uint64(commands) / 100}
	const keys, filler = 24, 4000
	p, r := newMember(t, g, Primary, nil), newMember(t, g, Replica, nil)
	p.s.stop, r.s.stop = stop, stop
	h := newHistory(keys, commands+1)
	var done atomic.Bool
	var wg sync.WaitGroup
	var hits, misses, dirty [2]atomic.Int64

	read := func(who int, s *Store, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var dst []byte
		for !done.Load() {
			var v Verdict
			var err error
			dst, v, err = h.check(s, rng.IntN(keys), dst)
			if err != nil {
				t.Errorf("member %d: %v", who, err)
				return
			}
			switch v {
			case Hit:
				hits[who].Add(1)
			case Miss:
				misses[who].Add(1)
			default:
				dirty[who].Add(1)
				runtime.Gosched()
			}
			if rng.IntN(16) == 0 {
				runtime.Gosched()
			}
		}
	}
	wg.Go(func() { read(0, p.s, 1) })
	wg.Go(func() { read(1, r.s, 2) })
	wg.Go(func() { read(1, r.s, 3) })
	wg.Go(func() { // the replica's loop
		for !done.Load() || r.s.Installed() < p.s.Stable() {
			r.s.Drain()
			if len(r.s.Verify(nil, 64, 1<<40)) > 0 {
				r.l.Commit()
			}
			r.s.Install(1 << 20)
			runtime.Gosched()
		}
	})

	rng := rand.New(rand.NewPCG(9, 9))
	var late []plog.Rec // bytes that are still on their way
	arrive := func() {
		for _, rec := range late {
			r.deliverBytes(p, rec)
		}
		late = late[:0]
	}
	for range commands {
		tx := p.s.Begin()
		if rng.IntN(100) == 0 {
			tx.FlushAll()
			for k := range keys {
				h.event(k, true)
			}
		}
		for range 1 + rng.IntN(2) {
			k := rng.IntN(keys)
			if rng.IntN(4) == 0 {
				h.event(k, true)
				tx.Del(h.keys[k])
			} else {
				tx.Set(h.keys[k], h.event(k, false))
			}
			// Keys that come and go let the indexes divide and clean up around those that are looked for.
			if i := fmt.Appendf(nil, "filler%d", rng.IntN(filler)); !tx.Del(i) {
				tx.Set(i, nil)
			}
		}
		recs, err := tx.Commit(nil)
		if err != nil {
			t.Error(err)
			break
		}
		p.l.Commit()
		for _, rec := range recs {
			if r.s.Drained()+g.RingSlots < rec.Seq {
				arrive()
				for r.s.Drained()+g.RingSlots < rec.Seq {
					r.s.SetStable(p.s.Stable())
					runtime.Gosched()
				}
			}
			if raceEnabled || rng.IntN(3) > 0 {
				r.deliverBytes(p, rec)
			} else {
				late = append(late, rec) // a write that the race detector would report, rightly: a NIC makes it
			}
			r.deliverSlot(p, rec, p.s.Stable())
		}
		if rng.IntN(3) == 0 {
			h.move(func() { p.s.SetStable(p.l.End()) })
			p.s.Everywhere(min(r.durable(), p.s.Stable()))
		}
		if rng.IntN(20) == 0 {
			arrive()
			r.s.SetStable(p.s.Stable())
		}
	}
	arrive()
	h.move(func() { p.s.SetStable(p.l.End()) })
	r.s.SetStable(p.l.End())
	done.Store(true)
	wg.Wait()
	for k := range keys {
		for _, s := range []*Store{p.s, r.s} {
			if _, v, err := h.check(s, k, nil); err != nil || v == Dirty {
				t.Errorf("at the end: key %d is %v, %v", k, v, err)
			}
		}
	}
	if p.s.Keys() != r.s.Keys() {
		t.Errorf("%d keys at the primary, %d at the replica", p.s.Keys(), r.s.Keys())
	}
	for who := range 2 {
		t.Logf("member %d: %d hits, %d misses, %d dirty", who, hits[who].Load(), misses[who].Load(), dirty[who].Load())
		if hits[who].Load() == 0 || misses[who].Load() == 0 {
			t.Error("the test shows nothing")
		}
	}
}
