package sim

import (
	"math/rand/v2"
	"strings"
	"time"
)

// strike lets a fault happen.
func (r *run) strike(e *Fault) {
	rng := rand.New(rand.NewPCG(e.Seed, 1))
	var m, o *member
	if len(e.Members) > 0 {
		m = r.members[e.Members[0]]
	}
	if len(e.Members) > 1 {
		o = r.members[e.Members[1]]
	}
	lasts := max(int64(e.For), 1)
	switch e.Kind {
	case "crash":
		if m.eng == nil {
			break
		}
		if rng.IntN(2) == 0 { // in the middle of what it does next, if it does anything
			m.mem.armed = 1 + rng.IntN(30)
			r.push(event{at: r.now + lasts/2, kind: evHeal, about: &occasion{fault: e, run: m.runs}})
			return
		}
		r.crash(m, "")
	case "power":
		r.power(m, rng)
	case "outage":
		for _, m := range r.members {
			r.power(m, rng)
		}
	case "pause":
		if m.eng != nil {
			m.paused = max(m.paused, r.now+lasts)
			r.say(m, "is stopped for %v", time.Duration(lasts))
		}
	case "cut":
		r.eachCut(e, func(w *way) {
			if w.held++; w.held == 1 {
				r.say(w.from, "nothing gets through to %s", w.to.name)
				r.net.Hold(w.from.name, w.to.name)
			}
		})
		if o == nil {
			m.alone++
		}
		if rng.IntN(2) == 0 && o != nil { // and those who wait for each other find out
			r.breakConn(m, o, rng)
		}
	case "slow":
		r.way(m, o).slow++
		r.way(o, m).slow++
		r.say(m, "the way to %s and back is slow", o.name)
	case "break":
		r.breakConn(m, o, rng)
	case "damage":
		r.crash(m, "")
		if r.hurt() {
			break // twice is more than an operator can mend
		}
		m.intact = m.mem.Clone()
		r.wiped = true
		b := m.mem.Bytes()
		at := rng.IntN(len(b))
		if rng.IntN(2) == 0 { // where it matters
			used := int(r.check.used())
			at = int(r.check.f.arena()) + rng.IntN(used+1)
		}
		b[at] ^= 1 << rng.IntN(8)
		m.mem.Persist(uint64(at), 1)
		m.mem.Fence()
		r.say(m, "a bit of byte %d of its memory turns around", at)
	case "wipe":
		if r.hurt() || m.id == 0 && !r.check.elsewhere() {
			break // nobody else has what would be lost
		}
		r.crash(m, "")
		was := m.mem.Simulated
		if err := r.format(m, rng.Uint64()); err != nil {
			r.fail("Simulator", "%v", err)
		}
		m.intact, m.wiped, r.wiped = nil, true, true
		if m.id == 0 {
			m.intact = was // the shard must not be served with an empty log; then an operator brings the old one back
		}
		r.check.restarted(m)
		r.say(m, "its memory is empty")
	case "stall":
		w := r.way(m, o)
		w.stall, w.until = e, r.now+lasts
	case "coordinator":
		r.strikeCoordinator(e, 1)
	case "clock":
		by := rng.Int64N(2001) - 1000
		m.clock.wall += by
		r.check.set(m, r.now)
		r.say(m, "its wall clock is set by %d ms", by)
	}
	r.push(event{at: r.now + lasts, kind: evHeal, about: &occasion{fault: e}})
}

// hurt says whether some member lacks what it held once.
func (r *run) hurt() bool {
	for _, m := range r.members {
		if m.wiped || m.intact != nil {
			return true
		}
	}
	return false
}

// heal ends a fault.
func (r *run) heal(ev *event) {
	e := ev.about.fault
	r.troubles--
	r.healed = r.now
	switch e.Kind {
	case "crash":
		if m := r.members[e.Members[0]]; m.eng != nil && m.runs == ev.about.run { // it did nothing in whose middle it could have ended
			r.crash(m, "")
		}
		r.restart(r.members[e.Members[0]])
	case "power", "damage", "wipe":
		r.restart(r.members[e.Members[0]])
	case "outage":
		for _, m := range r.members {
			r.restart(m)
		}
	case "cut":
		r.eachCut(e, func(w *way) {
			if w.held--; w.held == 0 {
				r.say(w.from, "the way to %s is open again", w.to.name)
				r.net.Release(w.from.name, w.to.name)
				r.moveWays(w.from)
				r.wake(w.from, r.now+1)
			}
		})
		if len(e.Members) == 1 {
			r.members[e.Members[0]].alone--
		}
	case "stall":
		r.resume(e)
	case "coordinator":
		r.strikeCoordinator(e, -1)
	case "slow":
		a, b := r.members[e.Members[0]], r.members[e.Members[1]]
		r.way(a, b).slow--
		r.way(b, a).slow--
	}
}

func (r *run) eachCut(e *Fault, f func(*way)) {
	m := r.members[e.Members[0]]
	for _, o := range r.members {
		switch {
		case o == m:
		case len(e.Members) == 1:
			f(r.way(m, o))
			f(r.way(o, m))
		case o.id == e.Members[1]:
			f(r.way(m, o))
			if !e.OneWay {
				f(r.way(o, m))
			}
		}
	}
}

// some lets a part of what is under way land: what a loss finds there may or may not have arrived.
func (r *run) some(w *way, rng *rand.Rand) {
	if w.conn == nil {
		return
	}
	for range rng.IntN(2 + r.net.Unlanded(w.conn)) {
		if !r.net.StepConn(w.conn, rng) {
			return
		}
	}
}

func (r *run) breakConn(a, b *member, rng *rand.Rand) {
	r.some(r.way(a, b), rng)
	r.some(r.way(b, a), rng)
	r.say(a, "the connection with %s is lost", b.name)
	r.net.Break(a.name, b.name)
	r.wake(a, r.now+r.latency())
	r.wake(b, r.now+r.latency())
}

// crash ends a member's process. The stores that it made stay; how is where it ended, if that is worth telling.
func (r *run) crash(m *member, how string) {
	m.mem.armed = 0
	if m.eng == nil {
		return
	}
	r.say(m, "%s", strings.TrimSuffix("its process ends "+how, " "))
	r.end(m)
	m.mem = &memory{Simulated: m.mem.ProcessCrash()}
}

// power ends it, and all that was not durable may be gone.
func (r *run) power(m *member, rng *rand.Rand) {
	m.mem.armed = 0
	if m.eng != nil {
		r.end(m)
	}
	r.say(m, "loses its power")
	m.mem = &memory{Simulated: m.mem.Crash(rng)}
	r.check.restarted(m)
}

func (r *run) end(m *member) {
	r.check.look() // at what it did in its last step
	rng := rand.New(rand.NewPCG(m.runs, uint64(r.now)))
	for _, o := range r.members {
		if o != m {
			r.some(r.way(m, o), rng)
			r.some(r.way(o, m), rng)
		}
	}
	r.endStalls(m, rng)
	r.endNow(m)
}

// endNow ends a member's process; nothing of what is under way from or to it lands any more.
func (r *run) endNow(m *member) {
	m.eng = nil
	m.paused = 0
	r.net.Crash(m.name)
	for _, o := range r.members {
		r.way(o, m).conn, r.way(m, o).conn = nil, nil
		r.wake(o, r.now+r.latency())
	}
	for _, l := range m.inbox {
		if l.conn != nil {
			l.conn.Close()
		}
	}
	r.lost(m)
}

func (r *run) restart(m *member) {
	if m.eng == nil && m.refused == "" {
		r.boot(m)
	}
}

// refusal follows a member that does not start, or stopped for good, and said why. After damage that is right, and an
// operator brings the memory back as it was; otherwise it must not happen.
func (r *run) refusal(m *member) {
	if m.intact == nil {
		r.fail("Served", "%s refuses, although its memory was never damaged: %s", m.name, m.refused)
		return
	}
	r.troubles++
	r.push(event{at: r.now + 10*r.latency(), kind: evHeal, about: &occasion{fault: &Fault{Kind: "damage", Members: []int{m.id}}}})
	r.say(m, "its memory is brought back from a copy")
	m.mem = &memory{Simulated: m.intact}
	m.intact, m.refused = nil, ""
}

// stopped looks for members that have stopped serving for good. What was damaged may be another's memory than that of the
// one that noticed. A member also stops when it cannot be fenced because somebody is in the middle of a write there, or was
// when it looked last: keys that are withdrawn in the background are good for a moment longer.
func (r *run) stopped(m *member) {
	err := m.eng.Status().Err
	mended := (m.middle || r.net.InTheMiddle(m.name) > 0) && strings.Contains(err.Error(), "could not be fenced")
	r.end(m)
	for _, o := range r.members {
		if o.intact != nil {
			mended = true
			r.crash(o, "")
			o.refused = err.Error()
			r.refusal(o)
		}
	}
	if !mended {
		r.fail("Served", "%s stopped, although no memory was ever damaged: %v", m.name, err)
		return
	}
	if m.eng == nil && m.refused == "" {
		r.troubles++
		r.push(event{at: r.now + 20*r.latency(), kind: evHeal, about: &occasion{fault: &Fault{Kind: "crash", Members: []int{m.id}}}})
	}
}
