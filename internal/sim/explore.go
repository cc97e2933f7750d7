package sim

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Scope is a tiny cluster of which every order of events is tried: three members, some writes and reads of one key, each
// asked once at any time. Operations land one by one, in every order that the network allows; members look at what has come
// at any time, which includes every pause; a crash may come at any moment.
type Scope struct {
	Writes  []int // at which member each is asked
	Reads   []int
	Crash   bool // at every state each member's process ends, or loses its power; the cluster then recovers in one way
	Recover bool // and there, too, every order is tried, instead of one way
	Large   bool // values are too large to be sent to every member directly
	Each    bool // no reduction: every landing is an event of its own (see lands); far more states, and the same histories
	Reports bool // what members report to P of themselves lands at any time, as all else; if not, at once
	Broken  Broken

	Workers int // goroutines, each with a cluster of its own; 0: as many as there are processors
	Most    int // states after which exploring gives up; 0: no bound

	// Of tests:
	ended   func([]*op) // called at each end
	whole   bool        // states differ as soon as what clients saw does
	wakeful bool        // nothing sleeps: see sleepers
}

// Explored is what exploring has found.
type Explored struct {
	States      int
	Transitions int
	Crashes     int // that led to different states
	Recoveries  int // that were followed from there
	Ended       int // states in which everything was answered and nothing was under way
	Complete    bool
	Violation   *Violation
	Story       string // the steps that lead to it
}

// explorer shares what is known between workers.
type explorer struct {
	scope *Scope
	known states
	most  int64

	mu     sync.Mutex
	idle   sync.Cond
	busy   int
	hungry atomic.Bool // somebody has nothing to do
	open   []branch
	found  Explored
	done   atomic.Bool
	again  atomic.Bool // a piece of memory was not restored: all has to be done once more
}

// states are digests, each with what need not be tried there. Two states of one digest would be taken for one: with 64 bits
// that happens once in a million explorations of ten million states.
type states struct {
	shards [64]struct {
		sync.Mutex
		asleep map[uint64]sleepers
	}
	count atomic.Int64
}

func (s *states) clear() {
	for i := range s.shards {
		s.shards[i].asleep = map[uint64]sleepers{}
	}
	s.count.Store(0)
}

// enter notes a state where some choices sleep. It says whether the state is new, and which of the choices that do not sleep
// now were asleep whenever it was entered before; still are those that sleep now as they did then.
func (s *states) enter(digest uint64, sleep sleepers) (fresh bool, woken, still sleepers) {
	h := &s.shards[digest%uint64(len(s.shards))]
	h.Lock()
	defer h.Unlock()
	if before, known := h.asleep[digest]; known {
		h.asleep[digest] = before & sleep
		return false, before &^ sleep, before & sleep
	}
	h.asleep[digest] = sleep
	s.count.Add(1)
	return true, 0, sleep
}

// Explore tries every order. An error says that ctx is done or the scope makes no sense.
func Explore(ctx context.Context, s Scope) (*Explored, error) {
	for _, at := range append(append([]int{}, s.Writes...), s.Reads...) {
		if at < 0 || at > 2 {
			return nil, fmt.Errorf("an operation at member %d: there are 0 to 2", at)
		}
	}
	if n := len(s.Writes) + len(s.Reads); n+3 > mostHistory {
		return nil, fmt.Errorf("%d operations: at most %d can be explored", n, mostHistory-3)
	}
	if s.Workers == 0 {
		s.Workers = runtime.GOMAXPROCS(0)
	}
	x := &explorer{scope: &s}
	x.idle.L = &x.mu
	stop := context.AfterFunc(ctx, x.stop)
	defer stop()
	walkers := make([]*walker, s.Workers)
	for i := range walkers {
		w, err := newWalker(x)
		if err != nil {
			return nil, err
		}
		walkers[i] = w
	}
	for {
		x.known.clear()
		x.found, x.open = Explored{}, []branch{{}}
		x.again.Store(false)
		var wg sync.WaitGroup
		for _, w := range walkers {
			wg.Go(w.work)
		}
		wg.Wait()
		if !x.again.Load() || ctx.Err() != nil {
			break
		}
		x.done.Store(false)
	}
	x.found.Complete = !x.done.Load()
	return &x.found, ctx.Err()
}

func (x *explorer) stop() {
	x.done.Store(true)
	x.mu.Lock()
	x.idle.Broadcast()
	x.mu.Unlock()
}

// next is a branch that nobody has tried; false: there is none, and there will be none.
func (x *explorer) next() (b branch, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.open) == 0 && x.busy > 0 && !x.done.Load() {
		x.hungry.Store(true)
		x.idle.Wait()
	}
	if len(x.open) == 0 || x.done.Load() {
		x.idle.Broadcast()
		return b, false
	}
	b = x.open[len(x.open)-1]
	x.open = x.open[:len(x.open)-1]
	x.busy++
	return b, true
}

func (x *explorer) offer(branches []branch) {
	x.mu.Lock()
	x.open = append(x.open, branches...)
	x.hungry.Store(false)
	x.idle.Broadcast()
	x.mu.Unlock()
}

func (x *explorer) finished(w *walker) {
	x.mu.Lock()
	x.busy--
	x.found.Transitions += w.transitions
	x.found.Crashes += w.crashes
	x.found.Recoveries += w.recoveries
	x.found.States += w.states
	x.found.Ended += w.ends
	w.states, w.transitions, w.crashes, w.recoveries, w.ends = 0, 0, 0, 0, 0
	x.idle.Broadcast()
	x.mu.Unlock()
}
