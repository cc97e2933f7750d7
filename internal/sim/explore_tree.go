package sim

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"

	"whale/internal/rewind"
)

// walker goes through the tree of all orders, depth first, with one cluster that it takes back whenever it returns to a
// state where something else is to be tried.
type walker struct {
	x     *explorer
	world *world
	graph *rewind.Graph
	start *rewind.Point
	d     digest
	rng   *rand.Rand

	path  []choice // all that was taken
	root  int      // how much of it leads to the branch that is explored
	stack []level  // the states behind it: from the i-th path[root+i] was taken
	here  bool     // the cluster is in the last of them
	rests int      // restores since the graph learned last

	states, transitions, crashes, recoveries, ends int
}

// level is a state on the path, with what else is to be tried there.
type level struct {
	point *rewind.Point // nil: it is reached from an earlier level's
	all   []choice
	open  []int    // of all, to be tried
	sleep sleepers // of all, not to be tried, or tried already
	did   []effect // by those that sleep
}

// branch is a path, of which the last choice was never taken there, and what need not be tried where that one is not
// dependent on it.
type branch struct {
	path  []choice
	sleep []sleeper
}

const (
	trials   = 24   // random paths by which a walker learns what changes
	learning = 4096 // restores
	spacing  = 4    // levels for one point: a step costs less than a copy of the cluster
)

func newWalker(x *explorer) (*walker, error) {
	world, err := newWorld(x.scope)
	if err != nil {
		return nil, err
	}
	w := &walker{x: x, world: world, rng: rand.New(rand.NewPCG(1, 1))}
	w.learnAll()
	return w, nil
}

// learnAll finds out what changes on some paths.
func (w *walker) learnAll() {
	w.graph = rewind.New(apartFromTime, w.world)
	w.d.changed = w.graph.Changed
	w.start = w.graph.Save()
	for i := range trials {
		for all := w.world.choices(); len(all) > 0 && w.world.r.bad == nil; all = w.world.choices() {
			if m := i % 4; w.x.scope.Crash && !w.world.fell && m < 3 && w.rng.IntN(10) == 0 {
				w.world.take(w.world.crashes(nil, m)[0])
				if !w.x.scope.Recover {
					w.world.restart()
				}
				continue
			}
			w.world.take(all[w.rng.IntN(len(all))])
		}
		w.world.last()
		w.graph.Learn()
		w.graph.Restore(w.start)
	}
}

// apartFromTime are fields that need not be taken back: what carries nothing from one step to the next, what never changes,
// and chance, to which nothing is left here.
func apartFromTime(owner reflect.Type, field string) bool {
	switch owner.String() {
	case "pmem.Simulated":
		return field == "rng" || field == "evicted"
	case "shard.link":
		return field == "polled"
	case "shard.Engine":
		return field == "cfg"
	case "sim.world":
		return field == "scope"
	case "command.Command":
		return true
	}
	return false
}

func (w *walker) work() {
	for {
		b, ok := w.x.next()
		if !ok {
			return
		}
		w.explore(b)
		w.x.finished(w)
	}
}

// explore goes a path, and from its end on wherever nobody was yet.
func (w *walker) explore(b branch) {
	w.graph.Restore(w.start)
	w.path, w.stack, w.root, w.here = append(w.path[:0], b.path...), w.stack[:0], len(b.path), false
	var did effect
	for _, c := range b.path {
		did = w.world.take(c)
	}
	sleep := b.sleep
	if len(b.path) > 0 {
		sleep = stillAsleep(slices.Clone(sleep), sleeper{b.path[len(b.path)-1], did})
	}
	for more := true; more; {
		w.arrive(sleep)
		if w.x.hungry.Load() {
			w.share()
		}
		sleep, more = w.back()
	}
	w.learn()
}

// arrive notes the state that was reached, and what is to be tried there.
func (w *walker) arrive(sleep []sleeper) {
	if w.world.r.bad != nil {
		w.violated()
		return
	}
	if n := len(w.path); n > 0 && w.path[n-1].kind == crash && !w.x.scope.Recover {
		w.crashed()
		return
	}
	l := level{all: w.world.choices()}
	l.did = make([]effect, len(l.all))
	for _, s := range sleep {
		if i := slices.Index(l.all, s.choice); i >= 0 && i < mostSleepers && !w.x.scope.wakeful && !w.world.fell {
			l.sleep |= 1 << i
			l.did[i] = s.did
		}
	}
	quiet := len(l.all) == 0
	fresh, woken, still := w.x.known.enter(w.d.of(w.world), l.sleep)
	if fresh {
		w.states++
		l.all = w.endings(l.all)
		l.did = append(l.did, make([]effect, len(l.all)-len(l.did))...)
	}
	for i := range l.all {
		if fresh && !l.sleep.has(i) || woken.has(i) {
			l.open = append(l.open, i)
		}
	}
	w.rng.Shuffle(len(l.open), func(i, j int) { l.open[i], l.open[j] = l.open[j], l.open[i] }) // what is wrong is found sooner
	l.sleep = still
	if most := int64(w.x.scope.Most); most > 0 && w.x.known.count.Load() >= most {
		w.x.stop()
	}
	w.transitions += len(l.open)
	if len(l.open) > 0 {
		if len(w.stack)%spacing == 0 || quiet {
			l.point = w.graph.Save()
		}
		w.stack = append(w.stack, l)
		w.here = true
	}
	if fresh && quiet { // nothing is left to happen
		w.here = false
		w.ends++
		w.end()
	}
}

// endings appends crashes. What a member that ends had in mind does not matter: only what it had posted, and what it leaves.
func (w *walker) endings(all []choice) []choice {
	if !w.x.scope.Crash || w.world.fell {
		return all
	}
	for i, m := range w.world.r.members {
		if fresh, _, _ := w.x.known.enter(w.d.without(w.world, m)+uint64(i)+1, 0); fresh {
			all = w.world.crashes(all, i)
		}
	}
	return all
}

// crashed follows the end of a process: the others go on as far as they can, and then it starts again. That is one way of many, so
// of two states that come to the same on the way one suffices.
func (w *walker) crashed() {
	known := &w.x.known
	if fresh, _, _ := known.enter(w.d.crashed(w.world), 0); !fresh {
		return
	}
	w.crashes++
	w.world.settle()
	if fresh, _, _ := known.enter(w.d.crashed(w.world)^1, 0); w.world.r.bad == nil && !fresh {
		return
	}
	w.recoveries++
	w.world.restart()
	w.end()
}

// end looks at the cluster when nothing is left to happen.
func (w *walker) end() {
	if w.world.last(); w.world.r.bad != nil {
		w.violated()
	} else if w.x.scope.ended != nil {
		w.x.mu.Lock()
		w.x.scope.ended(w.world.ops)
		w.x.mu.Unlock()
	}
}

// back returns to the last state where something is to be tried, and takes it. sleep is what need not be tried behind it.
func (w *walker) back() (sleep []sleeper, more bool) {
	for n := len(w.stack) - 1; n >= 0; n-- {
		l := &w.stack[n]
		if len(l.open) > 0 && !w.x.done.Load() {
			w.restore(n)
			i := l.open[0]
			l.open = l.open[1:]
			c := l.all[i]
			w.path = append(w.path, c)
			l.did[i] = w.world.take(c)
			for k := range l.all[:min(len(l.all), mostSleepers)] {
				if l.sleep.has(k) {
					sleep = append(sleep, sleeper{l.all[k], l.did[k]})
				}
			}
			if i < mostSleepers {
				l.sleep |= 1 << i
			}
			return stillAsleep(sleep, sleeper{c, l.did[i]}), true
		}
		if l.point != nil {
			w.graph.Drop(l.point)
		}
		w.stack = w.stack[:n]
		w.here = false
	}
	return nil, false
}

// restore brings the cluster to the state of the last level, unless it is there.
func (w *walker) restore(n int) {
	w.path = w.path[:w.root+n]
	if w.here {
		w.here = false
		return
	}
	from := n
	for w.stack[from].point == nil {
		from--
	}
	if w.rests++; w.rests == learning {
		w.learn()
	}
	w.graph.Restore(w.stack[from].point)
	for _, c := range w.path[w.root+from:] {
		w.world.take(c)
	}
}

// learn makes sure that all that changed was taken back. If not, what was found so far may be wrong.
func (w *walker) learn() {
	w.rests = 0
	if w.graph.Learn() > 0 {
		w.x.again.Store(true)
		w.x.stop()
	}
}

// share gives what is to be tried in the first state that has some to others.
func (w *walker) share() {
	for n := range w.stack {
		l := &w.stack[n]
		if len(l.open) == 0 {
			continue
		}
		var asleep []sleeper
		for k := range l.all[:min(len(l.all), mostSleepers)] {
			if l.sleep.has(k) {
				asleep = append(asleep, sleeper{l.all[k], l.did[k]})
			}
		}
		var branches []branch
		for _, i := range l.open {
			branches = append(branches, branch{append(slices.Clone(w.path[:w.root+n]), l.all[i]), asleep})
		}
		l.open = nil
		w.x.offer(branches)
		return
	}
}

// violated keeps the first violation.
func (w *walker) violated() {
	w.x.mu.Lock()
	if w.x.found.Violation == nil {
		w.x.found.Violation, w.x.found.Story = w.world.r.bad, w.story()
	}
	w.x.mu.Unlock()
	w.x.stop()
}

// story tells the path.
func (w *walker) story() string {
	var b strings.Builder
	for _, c := range w.path {
		b.WriteString(w.world.tell(c))
	}
	return b.String()
}
