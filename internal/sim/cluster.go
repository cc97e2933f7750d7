package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/internal/cluster"
	"whale/internal/command"
	"whale/internal/plog"
	"whale/internal/replication"
	"whale/internal/replication/chain"
	"whale/internal/replication/whale"
	"whale/internal/shard"
	"whale/internal/store"
	"whale/pmem"
)

const (
	commandTimeout = int64(100e6) // of the members, in ns
	queueLimit     = 1 << 12
	queueDepth     = 2 * ringSlots // of a connection: more than is ever posted without a completion
	stepsAtOnce    = 64            // of an engine, in one round of its loop
	ringSlots      = 64
	segmentSize    = 64 << 10
)

// member is one process and the machine that it runs on.
type member struct {
	id    int
	name  string
	mem   *memory
	clock clock
	bufs  pmem.Memory // of messages; used by one run of the process after the other

	// Of the process, while it runs.
	eng   *shard.Engine // nil: it does not run
	st    *store.Store
	ep    *simfab.Endpoint
	runs  uint64 // how often it was started
	key   fabric.Key
	seal  fabric.Key // the only key that is good since the member stored its epoch; 0: none yet
	epoch uint32     // stored

	inbox   []mail
	given   []int64 // when the engine was given requests lately
	stepAt  int64   // when it is stepped next; 0: not before something happens
	stopped bool    // for good, as it told
	middle  bool    // at the last look somebody was in the middle of a write here
	stepped int64   // its own clock at the last step
	paused  int64   // until when
	alone   int     // faults that cut it off from everybody
	refused string
	wiped   bool            // its memory was emptied since the last view was formed
	intact  *pmem.Simulated // damage: the memory as it was before
}

// mail is what other parts of a process hand to its loop.
type mail struct {
	op   *op
	conn fabric.Conn
	from int

	decided *cluster.Outcome
	told    *cluster.Versioned
}

// clock is a member's: it runs at its own rate, and its wall clock shows another time.
type clock struct {
	rate float64 // how much of a second a second takes
	wall int64   // unix ms at the beginning
}

func (c *clock) local(now int64) int64 { return 1 + now + int64(float64(now)*c.rate) }

// global is the first moment at which the clock shows at least local.
func (c *clock) global(local int64) int64 {
	at := int64(float64(local-1) / (1 + c.rate))
	for c.local(at) < local {
		at++
	}
	return at
}

// server is a node of which commands only ask the time.
type server struct {
	command.Server
	r *run
	m *member
}

func (s *server) Now() int64       { return s.m.clock.wall + s.m.clock.local(s.r.now)/1e6 }
func (s *server) RoleName() string { return "master" }

// endpoint notes the keys that the engine gives away.
type endpoint struct {
	*simfab.Endpoint
	m *member
}

func (e endpoint) Register(mem pmem.Memory, off, n uint64, rights fabric.Rights) (fabric.Key, error) {
	key, err := e.Endpoint.Register(mem, off, n, rights)
	if rights != fabric.LocalOnly {
		e.m.key = key
	}
	return key, err
}

// way is what one member posts to another.
type way struct {
	from, to *member
	conn     fabric.Conn // from's end
	due      bool        // something of it will land
	slow     int         // faults that slow it
	stall    *Fault      // leaves the next write in the middle
	until    int64       // when that is over
	held     int         // faults that cut it
}

func memberName(i int) string {
	if i == 0 {
		return "P"
	}
	return fmt.Sprintf("B%d", i)
}

func (r *run) geometry() plog.Geometry {
	return plog.Geometry{RingSlots: ringSlots, SegmentSize: segmentSize, Segments: uint64(r.c.Segments)}
}

// build makes the machines, with empty memories, and starts the processes.
func (r *run) build(rng *rand.Rand) error {
	r.net = simfab.New(simfab.Options{Late: r.c.Late, Relaxed: r.c.Relaxed, QueueDepth: queueDepth, OnLand: r.landing(), Later: r.askAgain()})
	n := r.c.Members
	for i := range n {
		m := &member{id: i, name: memberName(i), bufs: r.buffers(i)}
		m.clock = clock{rate: (2*rng.Float64() - 1) * r.f.Drift / 1e6, wall: 1_700_000_000_000 + rng.Int64N(1000)}
		if r.o.clocks != nil {
			m.clock.rate = r.o.clocks[i]
		}
		r.check.set(m, 0)
		if err := r.format(m, rng.Uint64()); err != nil {
			return err
		}
		r.members = append(r.members, m)
	}
	r.ways = make([]way, n*n)
	for i := range r.ways {
		r.ways[i].from, r.ways[i].to = r.members[i/n], r.members[i%n]
	}
	r.newCoordinator()
	for _, m := range r.members {
		r.boot(m)
	}
	return nil
}

func (r *run) format(m *member, seed uint64) error {
	g := r.geometry()
	m.mem = &memory{Simulated: pmem.Simulate(g.Size(), pmem.ADR, seed)}
	return plog.Format(m.mem, g, plog.Identity{Member: uint32(m.id)})
}

// queueLimit is how many requests may wait at a member.
func (r *run) queueLimit() int {
	if r.c.Queue == 0 {
		return queueLimit
	}
	return r.c.Queue
}

func (r *run) way(from, to *member) *way { return &r.ways[from.id*len(r.members)+to.id] }

// boot starts a member's process from its memory.
func (r *run) boot(m *member) {
	m.runs++
	m.ep = r.net.Endpoint(m.name)
	m.inbox, m.stepAt, m.stopped, m.middle, m.refused, m.key, m.seal = m.inbox[:0], 0, false, false, "", 0, 0
	var err error
	if !r.guard(m, func() { err = r.start(m) }) {
		return
	}
	if err != nil {
		r.say(m, "does not start: %v", err)
		m.eng, m.refused = nil, err.Error()
		r.net.Crash(m.name)
		r.refusal(m)
		return
	}
	r.say(m, "starts: its log ends at %d", m.eng.Status().End)
	r.check.started(m)
	for _, o := range r.members {
		if o != m {
			r.dial(o, m, r.latency())
		}
	}
	r.wake(m, r.now+1)
}

func (r *run) start(m *member) error {
	role := store.Replica
	if m.id == 0 {
		role = store.Primary
	}
	log, err := plog.Open(m.mem, m.name, plog.Identity{Member: uint32(m.id)})
	if err != nil {
		return err
	}
	m.st = store.New(log, role)
	m.st.Break(r.o.Broken.Store)
	recovered, err := m.st.Rebuild()
	if err != nil {
		return err
	}
	var core replication.Core
	if r.c.Protocol == "chain" {
		c := chain.New(log.Geometry())
		c.Break(r.o.Broken.Chain)
		core = c
	} else {
		c := whale.New(log.Geometry())
		c.Break(r.o.Broken.Core)
		core = c
	}
	eng, err := shard.New(shard.Config{
		Self: m.id, Members: r.names, Policy: r.policy, Mirrors: r.c.Mirrors, CommandTimeout: 100e6, QueueLimit: r.queueLimit(),
		Buffers: m.bufs, Server: &server{r: r, m: m}, Core: core, Elastic: r.elastic(m), Cut: recovered.CutBytes > 0, Incarnation: m.runs, Event: func(text string) {
			r.say(m, "%s", text)
			m.stopped = m.stopped || strings.HasPrefix(text, "the shard is not served")
		},
	}, m.st, log, endpoint{m.ep, m})
	if err != nil {
		return err
	}
	eng.Break(r.o.Broken.Engine)
	m.eng = eng
	return nil
}

// guard runs a part of a member's process. False: the process ended in the middle of it.
func (r *run) guard(m *member, f func()) (survived bool) {
	mem := m.mem
	mem.own = true
	defer func() {
		mem.own = false
		switch v := recover(); v.(type) {
		case nil:
		case struck:
			r.crash(m, "in the middle of a step")
		default:
			panic(v)
		}
	}()
	f()
	return true
}

// wake has a member stepped at some time, or sooner.
func (r *run) wake(m *member, at int64) {
	if m.eng == nil {
		return
	}
	if m.stepAt == 0 || at < m.stepAt {
		m.stepAt = at
		r.push(event{at: at, kind: evStep, who: int16(m.id)})
	}
}

// step is a round of a member's loop, as internal/node has it: look at what came in, step the engine until nothing moves,
// and park.
func (r *run) step(m *member) {
	m.stepAt = 0
	if m.eng == nil {
		return
	}
	if r.now < m.paused {
		r.wake(m, m.paused)
		return
	}
	local := m.clock.local(r.now)
	busy := false
	if !r.guard(m, func() {
		if local-m.stepped >= 1e6 && len(m.inbox) > 0 {
			m.eng.Step(local) // what is submitted now counts its time from the engine's last step
		}
		m.stepped = local
		for i := range m.inbox {
			r.open(m, &m.inbox[i])
		}
		m.inbox = m.inbox[:0]
		for range stepsAtOnce {
			if busy = m.eng.Step(local); !busy {
				break
			}
		}
	}) {
		return
	}
	if r.check != nil {
		r.check.sealed(m)
		r.check.leases(m)
	}
	r.ask(m)
	for _, id := range m.eng.Lost() {
		r.dial(m, r.members[id], r.now/4%1000+r.latency())
	}
	r.moveWays(m)
	if m.stopped {
		r.stopped(m)
		return
	}
	m.middle = r.net.InTheMiddle(m.name) > 0
	if busy || !m.ep.Arm() {
		r.wake(m, r.now+100+r.rng.Int64N(200))
		return
	}
	if at := m.eng.Wake(); at != 0 {
		r.wake(m, max(r.now+1000, m.clock.global(at)))
	}
}

func (r *run) open(m *member, l *mail) {
	if l.op != nil {
		m.given = append(m.given, r.now)
	}
	switch {
	case l.decided != nil:
		m.eng.Decided(*l.decided)
	case l.told != nil:
		m.eng.Told(*l.told)
	case l.op == nil:
		m.eng.Connected(l.from, l.conn)
	case l.op.read && !l.op.Behind && m.eng.TryRun(&l.op.Request):
		r.answered(l.op)
	default:
		m.eng.Submit(&l.op.Request)
	}
}

// moveWays sees to it that what was posted from or to a member lands some day.
func (r *run) moveWays(m *member) {
	for _, o := range r.members {
		if o != m {
			r.move(r.way(m, o))
			r.move(r.way(o, m))
		}
	}
}

func (r *run) move(w *way) {
	if w.conn != nil && !w.due && w.held == 0 && r.net.Unlanded(w.conn) > 0 {
		w.due = true
		r.push(event{at: r.now + r.delay(w), kind: evLand, who: int16(w.from.id*len(r.members) + w.to.id)})
	}
}

func (r *run) latency() int64 {
	l := int64(r.c.Latency)
	return l/2 + r.rng.Int64N(l+1)
}

func (r *run) delay(w *way) int64 {
	if w.slow > 0 {
		return 100 * r.latency()
	}
	return r.latency()
}

// land lets some of what is under way arrive.
func (r *run) land(w *way) {
	w.due = false
	if w.conn == nil || w.held > 0 {
		return
	}
	if w.stall != nil {
		r.stall(w)
	}
	if r.c.InOrder {
		r.net.DrainConn(w.conn)
	} else {
		for range 1 + r.rng.IntN(1+2*r.net.Unlanded(w.conn)) {
			if !r.net.StepConn(w.conn, r.rng) {
				break
			}
		}
	}
	r.move(w)
	if r.net.Unpolled(w.conn) > 0 {
		at := r.now + 50
		if r.rng.IntN(4) == 0 { // it is busy with something else
			at += r.rng.Int64N(8 * int64(r.c.Latency))
		}
		r.wake(w.from, at)
	}
	if w.to.ep.Rung() {
		r.wake(w.to, r.now+50+r.rng.Int64N(500))
	}
}

// dial makes a connection between two members soon, unless there is one: the one with the higher number dials.
func (r *run) dial(a, b *member, delay int64) {
	r.push(event{at: r.now + delay, kind: evDial, who: int16(a.id), other: int16(b.id)})
}

func (r *run) connect(a, b *member) {
	if a.eng == nil || b.eng == nil || r.connected(a, b) {
		return // who starts dials
	}
	ab, ba := r.way(a, b), r.way(b, a)
	if dialer := r.members[max(a.id, b.id)]; ab.held+ba.held > 0 || r.now < dialer.paused {
		r.dial(a, b, 20*r.latency())
		return
	}
	ab.conn, ba.conn = r.net.Connect(a.name, b.name)
	a.inbox = append(a.inbox, mail{conn: ab.conn, from: b.id})
	b.inbox = append(b.inbox, mail{conn: ba.conn, from: a.id})
	r.wake(a, r.now+r.latency())
	r.wake(b, r.now+r.latency())
}

// connected says whether the connection of two members stands, as far as either knows.
func (r *run) connected(a, b *member) bool {
	ab, ba := r.way(a, b), r.way(b, a)
	return ab.conn != nil && ba.conn != nil && r.net.Alive(ab.conn) && r.net.Alive(ba.conn)
}
