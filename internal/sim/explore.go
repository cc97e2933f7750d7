package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/internal/replication"
)

// Scope is a tiny cluster of which every order of events is tried: three members, some writes at P and reads at the
// backups, each asked once at any time. Operations land one by one, in every order that the network allows; members look at
// what has come at any time, which includes every pause; a crash may come at any moment.
type Scope struct {
	Writes  []int // at which member each is asked
	Reads   []int
	Crash   bool // at every state each member's process ends, or loses its power; the cluster then recovers in one way
	Large   bool // values are too large to be sent to every member directly
	Batches bool // what is posted together lands together, up to the next flush, READ or message: far fewer states
	Broken  Broken
	Workers int
	Most    int // states after which exploring gives up; 0: no bound
}

// Explored is what exploring has found.
type Explored struct {
	States      int
	Transitions int
	Crashes     int
	Ended       int // states in which everything was answered and nothing was under way
	Complete    bool
	Violation   *Violation
	Story       string // the steps that lead to it
}

// choice is one thing that may happen next.
type choice struct {
	kind choiceKind
	a, b int // issue: operation; look: member; land: way, which of its operations; crash: member, how
}

type choiceKind uint8

const (
	issue choiceKind = iota
	look
	land
	crash
)

// explorer shares what is known between workers.
type explorer struct {
	scope *Scope
	mu    sync.Mutex
	idle  sync.Cond
	busy  int
	known map[uint64]sleepers // states, and what need not be tried there
	open  []branch
	found Explored
	done  bool
}

// Explore tries every order. An error says that ctx is done or the scope makes no sense.
func Explore(ctx context.Context, s Scope) (*Explored, error) {
	for _, at := range append(append([]int{}, s.Writes...), s.Reads...) {
		if at < 0 || at > 2 {
			return nil, fmt.Errorf("an operation at member %d: there are 0 to 2", at)
		}
	}
	x := &explorer{scope: &s, known: map[uint64]sleepers{}, open: []branch{{}}}
	x.idle.L = &x.mu
	workers := s.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	stop := context.AfterFunc(ctx, func() {
		x.mu.Lock()
		x.done = true
		x.mu.Unlock()
		x.idle.Broadcast()
	})
	defer stop()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(x.work)
	}
	wg.Wait()
	x.found.Complete = !x.done
	x.found.States = len(x.known)
	return &x.found, ctx.Err()
}

func (x *explorer) work() {
	w := &walker{x: x, pool: &pool{}}
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		for len(x.open) == 0 && x.busy > 0 && !x.done {
			x.idle.Wait()
		}
		if len(x.open) == 0 || x.done {
			x.idle.Broadcast()
			return
		}
		b := x.open[len(x.open)-1]
		x.open = x.open[:len(x.open)-1]
		x.busy++
		x.mu.Unlock()
		w.follow(b)
		x.mu.Lock()
		x.busy--
		x.idle.Broadcast()
	}
}

// enter notes a state, where some choices sleep. It says whether the state is new, and which of the choices that do not
// sleep now were asleep whenever it was entered before.
func (x *explorer) enter(state uint64, sleep sleepers) (fresh bool, woken sleepers) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done {
		return false, 0
	}
	if before, known := x.known[state]; known {
		x.known[state] = before & sleep
		return false, before &^ sleep
	}
	x.known[state] = sleep
	if x.scope.Most > 0 && len(x.known) >= x.scope.Most {
		x.done = true
	}
	return true, 0
}

// branch is a path to a state, and a choice there at its end, that nobody has tried.
type branch struct {
	path  []choice
	sleep sleepers // behind it
}

// sleepers are choices that need not be tried: they were tried before another one that has nothing to do with them, and
// lead to the same states in either order (sleep sets, with states remembered: Godefroid, "Partial-Order Methods for the
// Verification of Concurrent Systems", 1996). No state is missed. A bit a choice.
type sleepers uint64

func (c choice) bit() sleepers {
	switch c.kind {
	case issue:
		return 1 << c.a
	case look:
		return 1 << (8 + c.a)
	case land:
		return 1 << (11 + 4*c.a + min(c.b, 3))
	}
	return 0
}

// awake are those of the sleepers that a choice has nothing to do with, which go on sleeping behind it.
func (w *walker) awake(sleep sleepers, all []choice, taken choice) (still sleepers) {
	for _, c := range all {
		if sleep&c.bit() != 0 && w.independent(c, taken) {
			still |= c.bit()
		}
	}
	return still
}

// independent says whether two choices lead to the same state in either order, whatever else happens. What lands concerns
// the two ends of its way; who looks, or is asked, changes itself and what it posts, and what it reports is seen by P; and
// what is asked is remembered together with what was answered before.
func (w *walker) independent(a, b choice) bool {
	if a.kind > b.kind {
		a, b = b, a
	}
	at := func(c choice) int {
		if c.kind == issue {
			return w.at[c.a]
		}
		return c.a
	}
	switch {
	case a.kind == crash || b.kind == crash || b.kind == issue || a.kind == issue && b.kind == look:
		return false
	case b.kind == look:
		return a.a != b.a && a.a != 0 && b.a != 0
	case a.kind == land:
		if a.a == b.a {
			return false
		}
		// A member of which nobody asks anything looks as soon as something has landed.
		return w.asked[a.a%3] && w.asked[b.a%3]
	}
	return at(a) != b.a/3 && at(a) != b.a%3 && (w.asked[b.a%3] || at(a) != 0)
}

// walker goes one path after the other.
type walker struct {
	x    *explorer
	pool *pool
	r    *run
	d    digest
	ops  []*op
	path []choice
	news [3]bool

	at    []int   // of which member each operation is asked
	asked [3]bool // P, and those of which something is asked
}

// follow goes a path, and from its end on, where nobody was yet, as far as it leads; what else could be done on the way is
// left for later.
func (w *walker) follow(b branch) {
	w.reset()
	for _, c := range b.path {
		w.take(c)
	}
	sleep := b.sleep
	for w.r.bad == nil {
		if n := len(w.path); n > 0 && w.path[n-1].kind == crash {
			break
		}
		fresh, woken := w.x.enter(w.d.of(w.r, w.news), sleep)
		if !fresh && woken == 0 {
			return
		}
		all := w.choices()
		if len(all) == 0 || all[0].kind == crash {
			w.ended()
			if len(all) == 0 {
				break
			}
		}
		var next []branch
		asleep := sleep
		for _, c := range all {
			if c.kind != crash && (fresh && sleep&c.bit() == 0 || woken&c.bit() != 0) {
				next = append(next, branch{append(append([]choice{}, w.path...), c), w.awake(asleep, all, c)})
				asleep |= c.bit()
			} else if c.kind == crash && fresh {
				next = append(next, branch{path: append(append([]choice{}, w.path...), c)})
			}
		}
		if len(next) == 0 {
			return
		}
		w.x.mu.Lock()
		w.x.found.Transitions += len(next)
		w.x.open = append(w.x.open, next[1:]...)
		w.x.mu.Unlock()
		w.x.idle.Broadcast()
		w.take(next[0].path[len(w.path)])
		sleep = next[0].sleep
	}
	w.judge()
}

// reset makes a new cluster that serves.
func (w *walker) reset() {
	s := w.x.scope
	o := &Options{Broken: s.Broken}
	r := &run{o: o, f: &o.Faults, now: 1, rng: rand.New(rand.NewPCG(1, 1)), pool: w.pool, policy: replication.Mirror,
		names: []string{memberName(0), memberName(1), memberName(2)}}
	r.c = &Cluster{Members: 3, Protocol: "whale", Policy: "mirror", Mirrors: 1, Segments: 2, Latency: 1}
	r.check = newChecker(r)
	if err := r.build(rand.New(rand.NewPCG(2, 2))); err != nil {
		panic(err) // the geometry is a constant
	}
	w.r, w.ops, w.path, w.news = r, w.ops[:0], w.path[:0], [3]bool{}
	w.asked, w.at = [3]bool{0: true}, w.at[:0]
	w.settle()
	g := r.newGroup()
	padding := 0
	if s.Large {
		padding = 700
	}
	add := func(at int, make func() *op) {
		c := &client{r: r, id: len(w.ops), rng: r.rng, m: r.members[at], runs: r.members[at].runs}
		c.conn = newConn(c)
		r.clients = append(r.clients, c)
		w.asked[at] = true
		w.at = append(w.at, at)
		w.ops = append(w.ops, make())
	}
	for i, at := range s.Writes {
		value := makeValue('v', i+1, padding)
		add(at, func() *op { return r.one(g, sub{set, 0, value}) })
	}
	for _, at := range s.Reads {
		add(at, func() *op { return r.one(g, sub{get, 0, ""}) })
	}
	for _, o := range w.ops {
		o.fate = void // it has not begun
	}
}

// settle lets everything happen, in order, until nothing moves.
func (w *walker) settle() {
	r := w.r
	for moved := true; moved && r.bad == nil; {
		moved = false
		for _, a := range r.members {
			for _, b := range r.members[:a.id] {
				if a.eng != nil && b.eng != nil && !r.connected(a, b) {
					r.connect(a, b)
					moved = true
				}
			}
		}
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

// step lets a member do all that it can.
func (w *walker) step(m *member) (moved bool) {
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
	return moved
}

// choices are what may happen in this state.
func (w *walker) choices() (all []choice) {
	r := w.r
	for i, o := range w.ops {
		if o.fate == void && o.call == 0 && (i == 0 || i >= len(w.x.scope.Writes) || w.ops[i-1].call != 0) { // writes in their order: they are alike
			all = append(all, choice{issue, i, 0})
		}
	}
	for i, news := range w.news {
		if news {
			all = append(all, choice{look, i, 0})
		}
	}
	for i := range r.ways {
		if conn := r.ways[i].conn; conn != nil {
			count := r.net.Choices(conn)
			if w.x.scope.Batches {
				count = min(count, 1)
			}
			for k := range count {
				all = append(all, choice{land, i, k})
			}
		}
	}
	if w.x.scope.Crash {
		for m := range 3 {
			for how := range 2 {
				all = append(all, choice{crash, m, how})
			}
		}
	}
	return all
}

// take lets one of them happen.
func (w *walker) take(c choice) {
	r := w.r
	w.path = append(w.path, c)
	switch c.kind {
	case issue:
		o := w.ops[c.a]
		for i, other := range w.ops { // what was answered before it was asked
			if other.fate == done {
				o.before |= 1 << i
			}
		}
		o.fate = open
		r.send(r.clients[c.a], o)
		w.step(o.c.m)
	case look:
		w.step(r.members[c.a])
	case land:
		way := &r.ways[c.a]
		w.land(way, c.b)
		if w.news[way.to.id] = true; !w.asked[way.to.id] {
			w.step(way.to)
		}
		if r.net.Unpolled(way.conn) > 0 {
			w.news[way.from.id] = true
		}
	case crash:
		m := r.members[c.a]
		r.check.look()
		r.end(m)
		if c.b == 0 {
			m.mem = &memory{Simulated: m.mem.ProcessCrash()}
		} else {
			m.mem = &memory{Simulated: m.mem.CrashDurable()}
			r.check.restarted(m)
		}
		for i := range r.ways { // nobody remembers the connections of a process that is gone
			if r.ways[i].from == m || r.ways[i].to == m {
				r.ways[i].conn = nil
			}
		}
		r.boot(m)
		w.settle()
		w.lastReads()
	}
	if c.kind != crash {
		w.reports()
	}
	r.check.look()
	r.events = r.events[:0]
}

// land lets one operation land, or a batch.
func (w *walker) land(way *way, which int) {
	net := w.r.net
	for {
		next := net.Pending(simfab.From(way.from.name), simfab.To(way.to.name))
		if !net.LandChoice(way.conn, which) || !w.x.scope.Batches || next[0].Kind != fabric.Write {
			return
		}
	}
}

// reports lands what members tell P of themselves as soon as it is next: it decides about nothing that a client sees.
func (w *walker) reports() {
	r := w.r
	for _, m := range r.members[1:] {
		conn := r.way(m, r.members[0]).conn
		for conn != nil {
			next := r.net.Pending(simfab.From(m.name), simfab.To("P"))
			if len(next) == 0 || next[0].Kind != fabric.Write || !r.net.LandChoice(conn, 0) {
				break
			}
		}
	}
}

// lastReads asks every member for the key once all is well.
func (w *walker) lastReads() {
	r := w.r
	for _, m := range r.members {
		if r.bad == nil && (m.eng == nil || !m.eng.Status().Serving) {
			r.fail("Liveness", "%s does not serve after the cluster recovered: %s", m.name, r.state())
		}
	}
	for _, m := range r.members {
		if r.bad != nil {
			return
		}
		c := &client{r: r, id: len(r.clients), rng: r.rng, m: m, runs: m.runs}
		c.conn = newConn(c)
		r.clients = append(r.clients, c)
		r.send(c, r.one(r.groups[0], sub{get, 0, ""}))
		w.settle()
	}
}

// ended: nothing is left to happen.
func (w *walker) ended() {
	for _, o := range w.ops {
		if o.fate != done {
			w.r.fail("Liveness", "nothing more happens, and %s has no answer: %s", o, w.r.state())
		}
	}
	w.lastReads()
	w.x.mu.Lock()
	w.x.found.Ended++
	w.x.mu.Unlock()
}

// judge looks at what clients saw on the path, and keeps the first violation.
func (w *walker) judge() {
	r := w.r
	if r.bad == nil {
		if g, _ := r.linearizable(0); g != nil {
			r.fail("Linearizable", "what clients saw has no order that explains it:\n%s", r.tell(g))
		}
	}
	w.x.mu.Lock()
	defer w.x.mu.Unlock()
	if n := len(w.path); n > 0 && w.path[n-1].kind == crash {
		w.x.found.Crashes++
	}
	if r.bad != nil && w.x.found.Violation == nil {
		w.x.found.Violation, w.x.found.Story, w.x.done = r.bad, w.story(), true
	}
}

// story tells the path.
func (w *walker) story() string {
	var b strings.Builder
	for _, c := range w.path {
		switch c.kind {
		case issue:
			fmt.Fprintf(&b, "%s: %s\n", w.ops[c.a].on.name, w.ops[c.a])
		case look:
			fmt.Fprintf(&b, "%s looks\n", memberName(c.a))
		case land:
			fmt.Fprintf(&b, "%s->%s lands, %d\n", memberName(c.a/3), memberName(c.a%3), c.b)
		case crash:
			fmt.Fprintf(&b, "%s %s\n", memberName(c.a), [...]string{"ends", "loses its power"}[c.b])
		}
	}
	return b.String()
}
