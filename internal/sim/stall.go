package sim

import (
	"math/rand/v2"

	"whale/fabric/simfab"
)

// stall is a write that stays in the middle: its target has checked the key, and some of its words are there.
type stall struct {
	fault *Fault
	w     *way
	write simfab.Event
	runs  uint64 // of the process that makes it
}

// askAgain decides how often a member that withdraws a key is told to ask again; nil: never.
func (r *run) askAgain() func() bool {
	if !r.c.Background {
		return nil
	}
	rng := stream(r.seed, 5)
	return func() bool { return rng.IntN(3) == 0 }
}

// stall leaves one of the writes that are under way on a way in the middle, if there is one. On shared memory the process
// that makes it is stopped there; the queue of a card may go on without it. Often a connection is lost besides, so that
// there is a view change while nobody knows when the write will end.
func (r *run) stall(w *way) {
	e := w.stall
	write, ok := r.net.BeginConn(w.conn)
	if !ok {
		return
	}
	rng := rand.New(rand.NewPCG(e.Seed, 2))
	if words := int(write.Len / 8); words > 1 {
		first := rng.IntN(words)
		r.net.DeliverWords(write, first, rng.IntN(words-first+1))
	}
	w.stall = nil
	r.stalls = append(r.stalls, stall{fault: e, w: w, write: write, runs: w.from.runs})
	if r.trace != nil {
		r.say(w.to, "%s from %s: it stops in the middle", r.describe(&write), w.from.name)
	}
	if rng.IntN(2) == 0 {
		w.from.paused = max(w.from.paused, w.until)
		r.say(w.from, "is stopped in the middle of it")
	}
	if rng.IntN(4) > 0 {
		r.breakConn(r.members[0], r.members[1+rng.IntN(len(r.members)-1)], rng)
	}
}

// resume ends a stall: the rest of the write lands, or the process that makes it ends there.
func (r *run) resume(e *Fault) {
	w := r.way(r.members[e.Members[0]], r.members[e.Members[1]])
	if w.stall == e {
		w.stall = nil // nothing was written
	}
	for i, s := range r.stalls {
		if s.fault != e {
			continue
		}
		r.stalls = append(r.stalls[:i], r.stalls[i+1:]...)
		if w.from.eng != nil && w.from.runs == s.runs && e.Seed%3 == 0 {
			r.crash(w.from, "in the middle of a write")
			r.troubles++
			r.push(event{at: r.now + r.latency(), kind: evHeal, about: &occasion{fault: &Fault{Kind: "crash", Members: []int{w.from.id}}}})
			return
		}
		s.finish(r)
		r.wake(w.from, r.now+1)
		return
	}
}

// finish lands the rest of a write, unless it is gone with one of its ends.
func (s *stall) finish(r *run) {
	if r.net.Deliver(s.write) != nil {
		return
	}
	r.move(s.w)
	if s.w.to.ep.Rung() {
		r.wake(s.w.to, r.now+50)
	}
}

// endStalls: a member's process ends. A write that somebody is in the middle of there may still land in its memory; the next
// process does not begin before it has, or never will.
func (r *run) endStalls(m *member, rng *rand.Rand) {
	for i := range r.stalls {
		if s := &r.stalls[i]; s.w.to == m && rng.IntN(2) == 0 {
			r.net.Deliver(s.write)
		}
	}
}
