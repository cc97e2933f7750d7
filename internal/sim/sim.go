// Package sim is a cluster in one goroutine: the engines of internal/shard, as a real node drives them, on a simulated
// network and simulated persistent memory, in virtual time. Everything that happens follows from one seed.
//
// A run ([Run]) lets clients at all members work on keys while faults strike, then stops the faults, waits until all is
// well again, and reads every key once more. Checkers that share no code with the engines follow each step; what clients
// saw must be linearizable. [Check] runs many seeds, and shrinks the schedule of one that fails.
//
// docs/simulation.md says what is simulated, and what is not.
package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"whale/fabric/simfab"
	"whale/internal/replication"
	"whale/internal/replication/chain"
	"whale/internal/replication/whale"
	"whale/internal/shard"
	"whale/internal/store"
	"whale/pmem"
)

// Options say how runs are made. The zero value has no faults and no checkers.
type Options struct {
	Faults   Faults
	NoChecks bool      // only run
	Trace    io.Writer // the story of the run; nil: it is not told
	Broken   Broken    // of tests only

	histories bool      // nothing counts but what clients saw
	clocks    []float64 // how much too fast each member's clock runs, a part of a second in each, in place of what chance brings
}

// Broken takes rules away from the cluster, so that tests can show that a run notices.
type Broken struct {
	Engine shard.Fault
	Core   whale.Fault
	Chain  chain.Fault
	Store  store.Fault
}

// Violation is what a run found wrong.
type Violation struct {
	Invariant string
	Text      string
	At        int64 // virtual time, ns
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s, at %d.%06d ms: %s", v.Invariant, v.At/1e6, v.At%1e6, v.Text)
}

// Result is how a run ended.
type Result struct {
	Seed       uint64
	Violation  *Violation // nil: nothing is wrong
	Operations int        // of clients
	Unsure     int        // histories for whose check the time did not suffice
	Faults     []Fault    // what happened
	Cluster    Cluster
	Virtual    time.Duration
	Events     uint64
}

// run is one run.
type run struct {
	o      *Options
	f      *Faults
	c      *Cluster
	seed   uint64
	policy replication.Policy
	names  []string

	now    int64
	order  uint64
	clock  int64 // of calls and returns: one at a time
	rng    *rand.Rand
	events events
	net    *simfab.Network
	coord  *coordinator
	ways   []way

	members []*member
	clients []*client
	groups  []*group
	active  [activeGroups]*group
	flushes []*op
	todo    []lastRead

	schedule  []Fault
	nextFault int
	troubles  int   // faults that are not over
	healed    int64 // when the last one was over
	wiped     bool
	stalls    []stall

	begun    int // operations
	values   int
	inFlight int
	final    bool
	quiet    int64 // since when nothing goes wrong any more; 0: not yet
	well     int64 // and since when all serve, and nobody waits; 0: not yet
	check    *checker
	trace    *trace
	bad      *Violation
	handled  uint64
	pool     *pool
}

// pool keeps what one run after the other can use.
type pool struct{ buffers []pmem.Memory }

func (r *run) buffers(i int) pmem.Memory {
	for len(r.pool.buffers) <= i {
		r.pool.buffers = append(r.pool.buffers, pmem.Heap(shard.BufferSize(replicaLimit)))
	}
	return r.pool.buffers[i]
}

const (
	patience  = int64(20e9) // how long a cluster to which nothing happens may take to be well, in virtual time
	mostSteps = 40_000_000  // events of a run that are too many for any
)

// Run makes one run. An error says that the options make no sense.
func Run(seed uint64, o Options) (*Result, error) {
	if err := o.Faults.Validate(); err != nil {
		return nil, err
	}
	return simulate(seed, &o, &pool{})
}

// stream is a source of chance of its own for each purpose, so that a change of one leaves the others as they were.
func stream(seed, purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, purpose)) }

func simulate(seed uint64, o *Options, p *pool) (*Result, error) {
	r := &run{o: o, f: &o.Faults, seed: seed, rng: stream(seed, 1), pool: p, now: 1}
	r.c = o.Faults.Cluster
	if r.c == nil {
		r.c = clusterOf(seed)
	}
	r.schedule = o.Faults.Schedule
	if r.schedule == nil {
		r.schedule = o.Faults.draw(stream(seed, 3), r.c)
	}
	r.policy, _ = replication.ParsePolicy(r.c.Policy)
	for i := range r.c.Members {
		r.names = append(r.names, memberName(i))
	}
	if o.Trace != nil {
		r.trace = newTrace(o.Trace, r)
	}
	if !o.NoChecks {
		r.check = newChecker(r)
	}
	if err := r.build(stream(seed, 4)); err != nil {
		return nil, err
	}
	for i := range r.c.Clients {
		c := &client{r: r, id: i, rng: stream(seed, 100+uint64(i))}
		r.clients = append(r.clients, c)
		r.later(c, r.think(c))
	}
	if r.c.Operations == 0 {
		r.began()
	}
	r.loop()
	res := &Result{
		Seed: seed, Violation: r.bad, Operations: r.begun, Faults: r.schedule, Cluster: *r.c,
		Virtual: time.Duration(r.now), Events: r.handled,
	}
	if r.bad == nil && !o.NoChecks {
		var g *group
		if g, res.Unsure = r.linearizable(10 * time.Second); g != nil {
			r.fail("Linearizable", "what clients saw of the keys %s and %s has no order that explains it:\n%s", g.keys[0], g.keys[1], r.tell(g))
			res.Violation = r.bad
		}
	}
	if r.trace != nil {
		if r.bad != nil {
			fmt.Fprintf(r.trace.w, "VIOLATION %v\n", r.bad)
		}
		return res, r.trace.w.Flush()
	}
	return res, nil
}

// loop lets events happen until the run is over.
func (r *run) loop() {
	for r.bad == nil {
		if (r.handled%32 == 0 || len(r.events) == 0) && r.over() {
			return
		}
		if len(r.events) == 0 || r.handled > mostSteps {
			r.fail("Liveness", "nothing more happens: %s", r.state())
			return
		}
		e := r.events.pop()
		r.now = e.at
		r.handled++
		switch e.kind {
		case evStep:
			m := r.members[e.who]
			if m.stepAt != e.at {
				continue // it was stepped sooner
			}
			r.step(m)
		case evLand:
			r.land(&r.ways[e.who])
		case evClient:
			r.next(r.clients[e.who])
		case evDial:
			r.connect(r.members[e.who], r.members[e.other])
		case evFault:
			r.strike(e.about.fault)
		case evHeal:
			r.heal(&e)
		case evWait:
		default:
			r.called(e.kind, e.about.call)
		}
		r.check.look()
		if e.kind == evStep {
			r.check.bounded(r.members[e.who])
		}
	}
}

// over says whether the run is: all was asked and answered after the last fault, and the members agree.
func (r *run) over() bool {
	if r.troubles > 0 || r.begun < r.c.Operations || r.nextFault < len(r.schedule) {
		r.quiet = 0
		return false
	}
	if r.quiet == 0 {
		r.quiet = r.now
	}
	if r.now-r.quiet > patience {
		r.fail("Liveness", "%v after the last fault not all is well: %s", time.Duration(r.now-r.quiet), r.state())
		return true
	}
	if r.inFlight > 0 {
		return false
	}
	for _, m := range r.members {
		if m.eng == nil {
			return false
		}
		if s := m.eng.Status(); !s.Serving || !s.Leased || m.id == 0 && !s.Writable {
			return false
		}
	}
	if !r.final && r.unexpired() {
		return false
	}
	if !r.final {
		r.finish()
	}
	if len(r.todo) > 0 || r.inFlight > 0 {
		return false
	}
	if r.settled() {
		return true
	}
	for _, m := range r.members { // what P tells without waking anybody is seen when a member looks
		r.wake(m, r.now+r.latency())
	}
	return false
}

// unexpired says whether keys still have deadlines for which the end of the run waits, as it does in every other seed.
func (r *run) unexpired() bool {
	at := r.check.expired()
	if at == 0 || r.seed%2 == 0 {
		return false
	}
	if r.well == 0 {
		r.well = r.now
	}
	at = max(at, r.well+r.check.late())
	if r.now < at {
		r.push(event{at: at, kind: evWait})
		return true
	}
	r.check.none()
	return r.bad != nil
}

// settled says whether the members have nothing left to do.
func (r *run) settled() bool {
	p := r.members[0].eng.Status()
	for _, m := range r.members {
		s := m.eng.Status()
		if s.Queued+s.Gated+s.Unsettled > 0 || s.End != p.End || m.id > 0 && (s.Drained != p.End || s.Installed != p.End) {
			return false
		}
	}
	if p.Every != p.End || p.Stable != p.End {
		return false
	}
	if r.check != nil {
		if differs := r.check.converged(); differs != "" {
			r.fail("PrefixEqual", "at the end, when all is quiet, %s", differs)
		}
	}
	return true
}

// state describes the members, for who wonders why nothing happens.
func (r *run) state() string {
	text := fmt.Sprintf("%d requests without an answer", r.inFlight)
	for _, m := range r.members {
		if m.eng == nil {
			text += fmt.Sprintf("; %s does not run", m.name)
			continue
		}
		s := m.eng.Status()
		text += fmt.Sprintf("; %s: epoch %d, serving %v (lease %v), end %d, S %d, DW %d, drained %d, installed %d, queued %d, gated %d, unsettled %d",
			m.name, s.Epoch, s.Serving, s.Leased, s.End, s.Stable, s.Every, s.Drained, s.Installed, s.Queued, s.Gated, s.Unsettled)
	}
	return text
}

// tick is the moment of a call or a return: no two are the same.
func (r *run) tick() int64 {
	r.clock++
	return r.clock
}

// fail notes the first thing that is wrong.
func (r *run) fail(invariant, format string, args ...any) {
	if r.bad == nil && (!r.o.histories || invariant == "Linearizable") {
		r.bad = &Violation{Invariant: invariant, Text: fmt.Sprintf(format, args...), At: r.now}
	}
}

// tell lists what clients saw of a group.
func (r *run) tell(g *group) (text string) {
	for _, o := range slices.Concat(g.history, r.flushes) {
		switch o.fate {
		case done:
			text += fmt.Sprintf("  %d to %d at %s: %s -> %v\n", o.call, o.ret, o.on.name, o, o.replies)
		case unknown:
			text += fmt.Sprintf("  %d at %s: %s, outcome unknown\n", o.call, o.on.name, o)
		}
	}
	return text
}
