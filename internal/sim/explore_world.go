package sim

import (
	"fmt"
	"math/rand/v2"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/internal/replication"
)

// choice is one thing that may happen next.
type choice struct {
	kind  choiceKind
	a, b  int8       // step: member, operation that is asked (-1: none); land: way, which of its operations; crash: member, how
	lands [4]landing // step, crash: what lands first, on each way beside the member
}

type choiceKind uint8

const (
	step choiceKind = iota
	land
	crash
)

// world is the cluster of a walker, and what is known of it. All of it is taken back with the cluster.
type world struct {
	scope *Scope
	r     *run
	ops   []*op
	at    []int   // of which member each is asked
	news  [3]bool // something has come that the member has not looked at
	seen  history
	told  []bool // whose end the history knows
	fell  bool   // a member's process has ended
}

// newWorld makes a cluster that serves.
func newWorld(s *Scope) (*world, error) {
	o := &Options{Broken: s.Broken}
	r := &run{o: o, f: &o.Faults, now: 1, rng: rand.New(rand.NewPCG(1, 1)), pool: &pool{}, policy: replication.Mirror,
		names: []string{memberName(0), memberName(1), memberName(2)}}
	r.c = &Cluster{Members: 3, Protocol: "whale", Policy: "mirror", Mirrors: 1, Segments: 2, Latency: 1}
	r.check = newChecker(r)
	if err := r.build(rand.New(rand.NewPCG(2, 2))); err != nil {
		return nil, err
	}
	w := &world{scope: s, r: r}
	w.settle()
	r.newGroup()
	padding := 0
	if s.Large {
		padding = 700
	}
	var writes []bool
	for i, at := range s.Writes {
		w.add(at, sub{set, 0, makeValue('v', i+1, padding)})
		writes = append(writes, true)
	}
	for _, at := range s.Reads {
		w.add(at, sub{get, 0, ""})
		writes = append(writes, false)
	}
	w.seen = newHistory(append(writes, false, false, false)) // and the last reads
	w.told = make([]bool, len(w.ops), mostHistory)
	return w, nil
}

// add is an operation that is going to be asked.
func (w *world) add(at int, s sub) *op {
	r := w.r
	c := &client{r: r, id: len(r.clients), rng: r.rng, m: r.members[at], runs: r.members[at].runs}
	c.conn = newConn(c)
	r.clients = append(r.clients, c)
	o := r.one(r.groups[0], s)
	o.fate = void // it has not begun
	w.at = append(w.at, at)
	w.ops = append(w.ops, o)
	return o
}

// begun says whether an operation was asked.
func (w *world) begun(i int) bool { return w.ops[i].call != 0 }

// alike says whether an operation only differs from the one before it in its name: then that one is asked first.
func (w *world) alike(i int) bool {
	return i > 0 && w.at[i] == w.at[i-1] && w.seen.writes[i] == w.seen.writes[i-1]
}

// beside are the ways from and to a member.
func (w *world) beside(m int) [4]*way {
	r, a, b := w.r, (m+1)%3, (m+2)%3
	return [4]*way{&r.ways[a*3+m], &r.ways[b*3+m], &r.ways[m*3+a], &r.ways[m*3+b]}
}

// choices are what may happen in this state, but for crashes.
func (w *world) choices() (all []choice) {
	to, from := target, poster
	if w.fell {
		to, from = target|poster, target|poster
	}
	for m := range w.r.members {
		each(w.unlanded(m, to, from), func(lands [4]landing) {
			if w.news[m] || lands != [4]landing{} {
				all = append(all, choice{step, int8(m), -1, lands})
			}
			for i := range w.ops {
				if w.at[i] == m && !w.begun(i) && (!w.alike(i) || w.begun(i-1)) {
					all = append(all, choice{step, int8(m), int8(i), lands})
				}
			}
		})
	}
	if w.scope.Each {
		for i := range w.r.ways {
			if conn := w.r.ways[i].conn; conn != nil {
				for k := range w.r.net.Choices(conn) {
					all = append(all, choice{kind: land, a: int8(i), b: int8(k)})
				}
			}
		}
	}
	return all
}

// crashes appends the ways in which a member may end.
func (w *world) crashes(all []choice, m int) []choice {
	each(w.unlanded(m, target|poster, target), func(lands [4]landing) {
		all = append(all, choice{crash, int8(m), 0, lands})
	})
	each(w.unlanded(m, poster, target), func(lands [4]landing) {
		all = append(all, choice{crash, int8(m), 1, lands})
	})
	return all
}

// sides are those that notice, on a way, whether something has landed.
type sides uint8

const (
	target sides = 1 << iota
	poster
)

// unlanded is for each way beside a member how much can land that is noticed by some side: for the ways to it, and from it.
//
// Landing is put off until it is noticed. An operation on the way from a to b changes nothing but b's memory (and tells b,
// in a message), or, if its completion waits for it, tells a; a Read depends on b's memory, and changes a's where only
// its completion has a look. So it makes no difference to anybody whether it lands now or later, as long as neither end
// takes a step that may notice, and nothing lands that must not overtake it; and what lands on different ways can do so in
// either order, since no two write different bytes to one place. Every order of events is therefore the same, for each
// member step by step, as one in which each landing comes just before a step of a member that notices it, or just before a
// landing that waits for it; and those are the ones that are tried. Checkers that ask whether something is there already
// find most when it comes as late as that.
//
// When a process ends, and nothing more is asked, it matters at it what has come, and what has been acknowledged; at others
// what has come from it. Where it loses its power, what has come and is not durable is as if it had not. After that keys
// are withdrawn and connections closed, and who does that decides about all that is on its ways.
func (w *world) unlanded(m int, to, from sides) (may [4][]landing) {
	net := w.r.net
	for i, way := range w.beside(m) {
		by := to
		if i >= 2 {
			by = from
		}
		noticed := 0
		if way.conn != nil && by&target != 0 && !w.scope.Each {
			noticed = net.Unnoticed(way.conn, simfab.Target)
		}
		for n := range noticed + 1 {
			completed := 0
			switch {
			case way.conn == nil || by&poster == 0 || w.scope.Each:
			case by&target != 0:
				completed = net.Completing(way.conn, n)
			default:
				completed = net.Unnoticed(way.conn, simfab.Poster)
			}
			for c := range completed + 1 {
				may[i] = append(may[i], landing{uint8(n), uint8(c)})
			}
		}
	}
	return may
}

// landing is how much lands on a way: operations that the target notices, and then those that the poster does, each with
// what must land before it.
type landing struct{ noticed, completed uint8 }

// each gives f all combinations.
func each(may [4][]landing, f func([4]landing)) {
	for _, a := range may[0] {
		for _, b := range may[1] {
			for _, c := range may[2] {
				for _, d := range may[3] {
					f([4]landing{a, b, c, d})
				}
			}
		}
	}
}

// take lets one of them happen.
func (w *world) take(c choice) (did effect) {
	r := w.r
	told := w.seen.ends
	for i, way := range w.beside(int(c.a) % 3) {
		for range c.lands[i].noticed {
			w.land(way, simfab.Target)
		}
		for range c.lands[i].completed {
			w.land(way, simfab.Poster)
		}
	}
	m := r.members[c.a%3]
	switch c.kind {
	case step:
		if c.b >= 0 {
			did.asked = true
			w.ask(int(c.b))
		}
		w.step(m)
	case land:
		way := &r.ways[c.a]
		r.net.LandChoice(way.conn, int(c.b))
		w.landed(way)
	case crash:
		w.crash(m, c.b == 1)
		if w.scope.Recover {
			r.boot(m)
			w.news = [3]bool{true, true, true}
			w.dial()
		}
	}
	if c.kind != crash {
		did.reported = w.reports()
		w.dial()
	}
	r.check.look()
	r.events = r.events[:0]
	did.answered = w.seen.ends > told
	return did
}

func (w *world) land(way *way, by simfab.Side) {
	if way.conn != nil && w.r.net.LandNoticed(way.conn, by) {
		w.landed(way)
	}
}

// landed follows a landing.
func (w *world) landed(way *way) {
	w.news[way.to.id] = true
	if w.r.net.Unpolled(way.conn) > 0 {
		w.news[way.from.id] = true
	}
	w.r.check.look()
}

// ask hands an operation to its member.
func (w *world) ask(i int) {
	o := w.ops[i]
	for k, other := range w.ops {
		if other.fate == done {
			o.before |= 1 << k
		}
	}
	o.fate = open
	w.seen.called(i)
	c, m := w.r.clients[i], w.r.members[w.at[i]]
	c.m, c.runs = m, m.runs // it has not ended since
	w.r.send(c, o)
}

// step lets a member do all that it can.
func (w *world) step(m *member) (moved bool) {
	if m.eng == nil {
		return false
	}
	r := w.r
	moved = len(m.inbox) > 0
	for i := range m.inbox {
		r.open(m, &m.inbox[i])
	}
	m.inbox = m.inbox[:0]
	for m.eng.Step(1e6) {
		moved = true
	}
	m.eng.Lost()
	r.check.sealed(m)
	m.ep.Wait(0)
	w.news[m.id] = false
	r.check.look()
	if m.stopped {
		r.fail("Served", "%s stopped: %v", m.name, m.eng.Status().Err)
	}
	w.listen()
	return moved
}

// listen tells the history what was answered.
func (w *world) listen() {
	for i, o := range w.ops {
		if w.told[i] || o.call == 0 || o.fate == open {
			continue
		}
		w.told[i] = true
		w.seen.ends++
		explained := true
		switch o.fate {
		case void:
			explained = w.seen.void(i)
		case unknown:
			w.seen.unknown(i)
		case done:
			value, ok := w.seen.valueOf(i, o.replies[0])
			if !ok {
				w.r.fail("Reply", "%s is answered with %q", o, o.replies)
				return
			}
			explained = w.seen.answered(i, value)
		}
		if !explained {
			w.r.fail("Linearizable", "what clients saw has no order that explains it:\n%s", w.r.tell(&group{history: w.ops}))
		}
	}
}

// reports lands what members tell P of themselves as soon as it is next: it decides about nothing that a client sees.
func (w *world) reports() (some bool) {
	if w.scope.Reports {
		return false
	}
	r := w.r
	for _, m := range r.members[1:] {
		for conn := r.way(m, r.members[0]).conn; conn != nil; {
			if kind, left := r.net.Next(conn); !left || kind != fabric.Write || !r.net.LandChoice(conn, 0) {
				break
			}
			some = true
		}
	}
	return some
}

// crash ends a member's process, or takes its power.
func (w *world) crash(m *member, power bool) {
	r := w.r
	w.fell = true
	r.check.look()
	r.endNow(m)
	if power {
		m.mem.LosePower()
		r.check.restarted(m)
	} else {
		m.mem.EndProcess()
	}
	w.listen()
}

// restart starts who does not run, and lets everything happen.
func (w *world) restart() {
	for _, m := range w.r.members {
		if m.eng == nil {
			w.r.boot(m)
		}
	}
	w.settle()
}

// settle lets everything happen, in order, until nothing moves.
func (w *world) settle() {
	r := w.r
	for moved := true; moved && r.bad == nil; {
		moved = w.dial()
		for i := range r.ways {
			if conn := r.ways[i].conn; conn != nil && r.net.Unlanded(conn) > 0 {
				r.net.DrainConn(conn)
				moved = true
			}
		}
		for _, m := range r.members {
			moved = w.step(m) || moved
		}
		r.check.look()
	}
	r.events = r.events[:0]
}

// dial connects who is not connected, at once. Who hears of a lost connection then has something to look at.
func (w *world) dial() (some bool) {
	r := w.r
	if !w.fell && len(r.groups) > 0 {
		return false // since the cluster was made nothing was lost
	}
	for _, a := range r.members {
		for _, b := range r.members[:a.id] {
			if a.eng != nil && b.eng != nil && !r.connected(a, b) {
				r.connect(a, b)
				w.news[a.id], w.news[b.id], some = true, true, true
			}
		}
	}
	for i := range r.ways {
		if conn := r.ways[i].conn; conn != nil && r.net.Unpolled(conn) > 0 {
			w.news[r.ways[i].from.id] = true
		}
	}
	return some
}

// last: all is quiet. Everything was answered, every member serves, and the key can be read at each.
func (w *world) last() {
	r := w.r
	for i, o := range w.ops {
		if w.begun(i) && o.fate == open {
			r.fail("Liveness", "nothing more happens, and %s has no answer: %s", o, r.state())
		}
	}
	for _, m := range r.members {
		if r.bad == nil && (m.eng == nil || !m.eng.Status().Serving) {
			r.fail("Liveness", "%s does not serve when nothing more happens: %s", m.name, r.state())
		}
	}
	for _, m := range r.members {
		if r.bad != nil {
			return
		}
		w.add(m.id, sub{get, 0, ""})
		w.told = append(w.told, false)
		i := len(w.ops) - 1
		w.ask(i)
		w.settle()
		if o := w.ops[i]; o.fate != done {
			r.fail("Liveness", "nothing more happens, and %s has no answer: %s", o, r.state())
		}
	}
}

// tell says what a choice means.
func (w *world) tell(c choice) (text string) {
	for i, way := range w.beside(int(c.a) % 3) {
		if n := c.lands[i]; n != (landing{}) {
			text += fmt.Sprintf("%s->%s: %d land, and %d whose completion waits for it\n", way.from.name, way.to.name, n.noticed, n.completed)
		}
	}
	switch c.kind {
	case step:
		if c.b < 0 {
			return text + memberName(int(c.a)) + " looks\n"
		}
		return text + fmt.Sprintf("%s: %s\n", memberName(int(c.a)), w.ops[c.b])
	case land:
		return fmt.Sprintf("%s->%s lands, the %d.\n", memberName(int(c.a/3)), memberName(int(c.a%3)), c.b+1)
	}
	return text + fmt.Sprintf("%s %s\n", memberName(int(c.a)), [...]string{"ends", "loses its power"}[c.b])
}
