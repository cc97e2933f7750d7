package timing

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// Thread is a thread of a program in virtual time.
type Thread struct {
	m     *Model
	index int
	clock ps
	fence ps                      // when the last line that it persisted is in a write queue
	next  func() (struct{}, bool) // lets it run until it hands over
	yield func(struct{}) bool     // hands over; nil for the goroutine that made the model

	stopped bool

	idle int // polls since anything else was called, all of them empty
	wake ps  // the earliest completion known to those polls
}

// before orders threads in time; by index when at the same time, so that equal runs are equal.
func (t *Thread) before(u *Thread) bool {
	return t.clock < u.clock || t.clock == u.clock && t.index < u.index
}

// Run runs the functions as threads that start at the caller's clock, and returns when all have ended, at the clock of the
// last. It returns how long each took. It may not be called from a thread. A panic of a function is Run's.
func (m *Model) Run(functions ...func()) []time.Duration {
	if m.thread != m.first {
		panic("timing: Run inside Run")
	}
	start := m.first.clock
	took := make([]time.Duration, len(functions))
	defer func() { m.thread, m.ready = m.first, m.ready[:0] }()
	for i, f := range functions {
		t := &Thread{m: m, index: i + 1, clock: start}
		next, stop := iter.Pull(func(yield func(struct{}) bool) {
			t.yield = yield
			defer func() {
				if t.stopped {
					recover() // the panic of enter
				}
			}()
			f()
		})
		defer stop()
		t.next = next
		m.ready = append(m.ready, t)
	}
	for len(m.ready) > 0 {
		t := m.ready[0]
		m.ready = slices.Delete(m.ready, 0, 1)
		m.thread = t
		if _, more := t.next(); more {
			m.suspend(t)
			continue
		}
		took[t.index-1] = time.Duration((t.clock - start) / 1000)
		m.first.clock = max(m.first.clock, t.clock)
	}
	return took
}

// suspend puts a thread among those that are ready, in order: they are few.
func (m *Model) suspend(t *Thread) {
	at, _ := slices.BinarySearchFunc(m.ready, t, func(a, b *Thread) int {
		return cmp.Or(cmp.Compare(a.clock, b.clock), cmp.Compare(a.index, b.index))
	})
	m.ready = slices.Insert(m.ready, at, t)
}

// enter is how every call begins: the calling thread waits until no other is earlier, and everything up to its clock has
// happened.
func (m *Model) enter() *Thread {
	t := m.thread
	for len(m.ready) > 0 && m.ready[0].before(t) {
		if t.stopped = !t.yield(struct{}{}); t.stopped { // another thread has panicked: this one is not to go on
			panic("timing: stopped")
		}
	}
	m.happen(t.clock)
	return t
}

// begin is enter for all calls but polls.
func (m *Model) begin() *Thread {
	t := m.enter()
	t.idle = 0
	return t
}

// spend moves the calling thread's clock on. What it does next waits for those that are earlier.
func (m *Model) spend(d ps) {
	t := m.thread
	t.idle = 0
	t.clock += max(d, 0)
}

// idlePoll is a poll that found nothing, of a thread that has conns to poll, the next completion of this one being due at
// the time given. A thread that has polled them all in vain, and more than once, spins: its clock goes to when anything
// can be different.
func (t *Thread) idlePoll(conns int, due ps) {
	if t.idle == 0 {
		t.wake = never
	}
	t.idle++
	t.wake = min(t.wake, due)
	t.clock += t.m.cost.cacheHit
	if t.idle > conns {
		at := min(t.wake, t.m.events.next())
		if len(t.m.ready) > 0 {
			at = min(at, t.m.ready[0].clock)
		}
		if at != never {
			t.clock = max(t.clock, at)
		}
		t.idle = 0
	}
}

// happen lets all events up to a point in time happen, in order.
func (m *Model) happen(until ps) {
	for len(m.events.heap) > 0 && m.events.heap[0].at <= until {
		e := m.events.pop()
		m.now = max(m.now, e.at)
		e.work.conn.step(e)
	}
	m.now = max(m.now, until)
}
