// Package shard is one member of one shard: the replication core, the store and the commands, driven by one Step.
//
// An [Engine] has no I/O, goroutine, clock or lock. Its driver (a process with sockets, or a simulated cluster) gives it
// connections and requests, calls Step until nothing moves, and gets the requests back when their replies may leave. One
// goroutine, the loop, owns the engine; only [Engine.TryRun] may be called from others.
//
// The reply of a command leaves when S, the stable position, has reached every record that the command wrote or saw: a
// failed SETNX reveals a write as much as a GET does.
package shard

import (
	"fmt"
	"sync/atomic"
	"time"

	"whale/fabric"
	"whale/internal/command"
	"whale/internal/plog"
	"whale/internal/replication"
	"whale/internal/store"
	"whale/pmem"
)

// Endpoint is what an engine needs of the fabric: the right to reach this member's memory, given and withdrawn.
type Endpoint interface {
	Register(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error)
	Revoke(fabric.Key) error
}

// Config describes a member.
type Config struct {
	Self           int      // this member's number; member 0 is the fixed primary
	Members        []string // what to call the members in messages (their data folders), by number
	Policy         replication.Policy
	Mirrors        int    // f, for the policy mirror: how many members besides P hold the data before a write is acknowledged
	MinCopies      int    // writes are taken with so many copies, although the policy wants more; 0: never fewer than it wants
	Incarnation    uint64 // of this run of the process
	CommandTimeout time.Duration
	QueueLimit     int         // requests that may wait to be executed
	Buffers        pmem.Memory // BufferSize(members) bytes for messages; registered by New
	Server         command.Server
	Core           replication.Core
	Event          func(string) // told what an operator may want to know; nil: nobody listens
	// Elastic lets views lose members and take them back, agreed on with a coordinator (Proposal, Decided). Nil: the view
	// always has all members, and leases are for ever.
	Elastic *Elastic
	// Cut says that recovery has cut off the end of the log. It was not known to be durable; but where it was, and was
	// damaged since, others know of it, and a view without them would lose it.
	Cut bool
}

// Engine is one member of one shard. Make it with New.
type Engine struct {
	cfg  Config
	st   *store.Store
	log  *plog.Log
	mem  pmem.Memory
	ctl  plog.Control
	ep   Endpoint
	core replication.Core

	now     int64
	serving atomic.Uint32 // the epoch in which this member serves; 0: it does not
	until   atomic.Int64  // it may answer reads until then: see leased
	err     error         // why the shard is not served any more

	links   []link
	reports []report
	lost    []int
	bufKey  fabric.Key
	key     fabric.Key // peers' right to this member's memory
	change  viewChange
	view    *replication.View

	leases     []lease
	leasesFrom int64 // when this epoch's began
	nextAsk    int64
	agreed     agreement

	in   replication.Input
	out  replication.Effects
	room int

	reader    int             // the member that answers reads; -1: every member does
	elsewhere atomic.Bool     // it is another one
	away      queue[*Request] // reads on their way there

	queue  queue[*Request] // (P) waiting to be executed; (backup) to be forwarded
	gated  queue[*Request] // (P) executed; the reply waits for S
	waits  []*Request      // (P) WAIT
	ctx    command.Ctx
	ahead  [][]byte
	dirty  dirtyReads // (backup)
	taken  []plog.Rec
	relay  relay
	asked  bool      // (P) WAIT wants the members' reports
	late   lateBytes // (backup)
	counts Counters
	past   past

	keepExpired bool // (P) keys whose deadlines have passed cannot be removed now
	bad         Fault
}

const (
	batch       = 256      // commands executed before their records are posted
	takeAtOnce  = 16       // (backup) slots drained, records verified, and installed in one step, and
	takeBytes   = 32 << 10 // bytes read, checked and forwarded: some 10 to 50 us, for which P may have to wait
	fetchAtOnce = 64       // records looked for at once, and asked for if they are missing
)

// New makes the engine of a member whose store has been rebuilt from its log. Nothing is served before a view is formed.
func New(cfg Config, st *store.Store, log *plog.Log, ep Endpoint) (*Engine, error) {
	n := len(cfg.Members)
	switch {
	case n == 0 || n > plog.MaxMembers:
		return nil, fmt.Errorf("shard: %d members; possible are 1 to %d", n, plog.MaxMembers)
	case cfg.Self < 0 || cfg.Self >= n:
		return nil, fmt.Errorf("shard: member %d of %d", cfg.Self, n)
	case cfg.Buffers == nil || uint64(len(cfg.Buffers.Bytes())) < BufferSize(n):
		return nil, fmt.Errorf("shard: message buffers of at least %d bytes are needed", BufferSize(n))
	}
	if cfg.Elastic != nil {
		if err := cfg.Elastic.validate(); err != nil {
			return nil, err
		}
	}
	key, err := ep.Register(cfg.Buffers, 0, BufferSize(n), fabric.LocalOnly)
	if err != nil {
		return nil, fmt.Errorf("shard: registering the message buffers: %w", err)
	}
	e := &Engine{
		cfg: cfg, st: st, log: log, mem: log.Memory(), ctl: log.Control(), ep: ep, core: cfg.Core,
		links: make([]link, n), reports: make([]report, n), leases: make([]lease, n), bufKey: key,
	}
	if c := cfg.Elastic; c != nil {
		// Nobody remembers what an earlier run has promised.
		for i := range e.leases {
			e.leases[i].promised = c.Clock() + c.stretch(int64(c.Lease))
		}
	}
	for i := range e.links {
		e.links[i].member = i
		e.links[i].polled = make([]fabric.Completion, 64)
	}
	e.reader = -1
	e.relay.waiting = map[uint64]*Request{}
	// A restart invalidates S before anything else: it belongs to an epoch that is over.
	e.ctl.SetS(0)
	e.ctl.SetDW(0)
	e.change.wanted = e.primary()
	st.SetClock(cfg.Server.Now)
	return e, nil
}

// Submit queues a request. Requests of one client are executed in the order of submission.
func (e *Engine) Submit(r *Request) {
	r.init(e.now + int64(e.cfg.CommandTimeout))
	if e.bad == FaultOvertake {
		r.Behind = false
	}
	if r.Cmd.Name == cmdWait && !e.primary() {
		r.deadline = e.waitDeadline(r)
	}
	switch {
	case e.err != nil:
		r.fail(e.refusal())
	case e.queue.len() >= e.cfg.QueueLimit && e.bad != FaultNoQueueLimit:
		r.fail(errBusy)
	case e.elsewhere.Load() && r.Cmd.Place == command.Read && !r.Behind:
		e.away.push(r)
	case !e.primary() && r.Cmd.Place == command.Read && !r.Behind:
		e.counts.DirtyReads++
		e.dirty.waiting = append(e.dirty.waiting, r)
	default:
		e.queue.push(r)
	}
}

// Cancel gives up a WAIT whose client is gone: it could otherwise stay for ever. The request is completed before Cancel
// returns; other requests, and those that are done, are left alone.
func (e *Engine) Cancel(r *Request) {
	if r.Cmd.Name == cmdWait && !e.cancelWait(r) {
		e.cancelForward(r)
	}
}

// Step does what can be done now. It says whether anything moved: if so, it wants to be called again before its goroutine
// parks. now is monotonic, in nanoseconds.
func (e *Engine) Step(now int64) bool {
	e.now = now
	if e.err != nil {
		e.listen()
		e.expire()
		return false
	}
	progress := e.poll()
	progress = e.askLeases() || progress
	progress = e.stepChange() || progress
	if e.primary() {
		progress = e.stepPrimary() || progress
	} else {
		progress = e.stepBackup() || progress
	}
	progress = e.pump() || progress
	e.expire()
	e.past.note(now, e.log.End())
	if !progress && e.view != nil {
		e.stepCore(true)
	}
	return progress
}

// Wake is when Step has to be called although nothing arrives; 0: never.
func (e *Engine) Wake() int64 {
	wake := e.out.Wake
	if e.view == nil {
		wake = 0
	}
	at := func(t int64) {
		if t != 0 && (wake == 0 || t < wake) {
			wake = t
		}
	}
	if e.queue.len() > 0 {
		at((*e.queue.at(0)).deadline)
	}
	if e.away.len() > 0 {
		at((*e.away.at(0)).deadline)
	}
	if e.gated.len() > 0 {
		at((*e.gated.at(0)).deadline)
	}
	for _, r := range e.waits {
		at(r.deadline)
	}
	at(e.nextExpiry())
	at(e.dirty.deadline())
	at(e.relay.deadline())
	at(e.late.wake())
	if e.change.phase == fencing || e.change.phase == revoking {
		at(e.now + int64(time.Millisecond)) // an operation in flight tells nobody that it has landed
	}
	e.wakeAgreement(at)
	return wake
}

// expire fails what was not done in time. Only what was appended has an unknown outcome.
func (e *Engine) expire() {
	for _, q := range [...]*queue[*Request]{&e.queue, &e.away} {
		for q.len() > 0 && (*q.at(0)).deadline <= e.now {
			q.pop().fail(errNotExecuted)
		}
	}
	for e.gated.len() > 0 && (*e.gated.at(0)).deadline <= e.now {
		r := e.gated.pop()
		r.W.Buf = r.W.Buf[:0]
		if r.seq != 0 && e.bad != FaultNotExecuted {
			r.fail(errUnknown)
		} else {
			r.fail(errReadLate)
		}
	}
	e.dirty.expire(e.now)
	e.expireForwards()
}

// stop ends this member's service for good: err says why and what to do.
func (e *Engine) stop(err error) {
	if e.err != nil {
		return
	}
	e.err = err
	e.serving.Store(0)
	e.endLeases()
	e.view = nil
	e.late = lateBytes{}
	e.change.phase = idle
	e.event("the shard is not served: " + err.Error())
	for _, q := range [...]*queue[*Request]{&e.queue, &e.away} {
		for q.len() > 0 {
			q.pop().fail(e.refusal())
		}
	}
	e.dirty.restart()
	for _, r := range e.dirty.waiting {
		r.fail(e.refusal())
	}
	e.dirty.waiting = e.dirty.waiting[:0]
}

func (e *Engine) refusal() string { return "SHARDDOWN the shard is not served: " + e.err.Error() }

// Close ends all connections. Requests that are still with the engine are not completed.
func (e *Engine) Close() {
	e.serving.Store(0)
	for i := range e.links {
		if e.links[i].conn != nil {
			e.links[i].conn.Close()
			e.links[i].conn = nil
		}
	}
}

func (e *Engine) name(member int) string { return e.cfg.Members[member] }

func (e *Engine) event(text string) {
	if e.cfg.Event != nil {
		e.cfg.Event(text)
	}
}
