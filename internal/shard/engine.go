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
	"errors"
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
	serving atomic.Uint32 // the epoch in which this member may answer reads now; 0: it may not
	err     error         // why the shard is not served any more

	links   []link
	reports []report
	lost    []int
	bufKey  fabric.Key
	key     fabric.Key // peers' right to this member's memory
	change  viewChange
	view    *replication.View

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
	asked  bool // (P) WAIT wants the members' reports
	missed int64
	counts Counters
	past   past

	keepExpired bool // (P) keys whose deadlines have passed cannot be removed now
	bad         Fault
}

const (
	batch       = 256  // commands executed before their records are posted
	takeAtOnce  = 1024 // records verified in one step
	fetchAtOnce = 64   // missing records asked for at once
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
	key, err := ep.Register(cfg.Buffers, 0, BufferSize(n), fabric.LocalOnly)
	if err != nil {
		return nil, fmt.Errorf("shard: registering the message buffers: %w", err)
	}
	e := &Engine{
		cfg: cfg, st: st, log: log, mem: log.Memory(), ctl: log.Control(), ep: ep, core: cfg.Core,
		links: make([]link, n), reports: make([]report, n), bufKey: key,
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
	if r.Cmd.Name == cmdWait && !e.primary() {
		r.deadline = e.waitDeadline(r)
	}
	switch {
	case e.err != nil:
		r.fail(e.refusal())
	case e.queue.len() >= e.cfg.QueueLimit:
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
		e.expire()
		return false
	}
	progress := e.poll()
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
	if e.change.phase == fencing || e.change.phase == revoking {
		at(e.now + int64(time.Millisecond)) // an operation in flight tells nobody that it has landed
	}
	return wake
}

func (e *Engine) stepPrimary() bool {
	if e.view == nil {
		return false
	}
	progress := false
	if e.serving.Load() != 0 && e.intact() {
		progress = e.expireKeys()
		progress = e.execute() || progress
	}
	if e.stepCore(false) {
		progress = true
	}
	// Where operations complete as they are posted, S moves in this very step.
	if e.poll() {
		e.stepCore(false)
		progress = true
	}
	if e.elsewhere.Load() {
		progress = e.forward(&e.away, e.reader) || progress
	}
	return e.release() || progress
}

// intact tells whether the current view's connections all stand. While they do not, S cannot move and nothing is appended.
func (e *Engine) intact() bool {
	for i := range e.links {
		if i != e.cfg.Self && !e.links[i].inView {
			return false
		}
	}
	return true
}

// execute runs queued commands, as many as the rings have room for and at most a batch, makes their records durable with
// one fence, and leaves them for the core.
func (e *Engine) execute() bool {
	e.lookAhead()
	n, more := 0, false
	for n < batch && e.queue.len() > 0 {
		r := *e.queue.at(0)
		if r.Cmd.Name == cmdWait {
			e.queue.pop()
			e.wait(r)
			n++
			continue
		}
		if r.Cmd.Place == command.Primary && !e.keepExpired && e.st.Overdue() {
			break // it would see keys that are about to go
		}
		if !e.run(r) {
			more = r.walk.More
			break // no room, or not done: it stays at the front
		}
		e.queue.pop()
		n++
		if e.bad == FaultNoGate && r.seq == 0 {
			r.complete()
			continue
		}
		r.free()
		e.gated.push(r)
	}
	if len(e.in.Appended) > 0 {
		e.log.Commit()
	}
	e.counts.Executed += uint64(n)
	return n > 0 || more
}

// lookAhead has the memory fetched that the first keys of the queued commands will need.
func (e *Engine) lookAhead() {
	n := min(e.queue.len(), batch)
	if n < 2 {
		return
	}
	e.ahead = e.ahead[:0]
	for i := range n {
		if r := *e.queue.at(i); r.Cmd.FirstKey > 0 && r.Cmd.FirstKey < len(r.Args) {
			e.ahead = append(e.ahead, r.Args[r.Cmd.FirstKey])
		}
	}
	e.st.Prefetch(e.ahead)
	clear(e.ahead)
}

// run executes one command at P, on the newest versions. False: its slots have no room, and nothing was done; or it wants
// to be run again (command.Walk), and nothing else meanwhile.
func (e *Engine) run(r *Request) bool {
	mark := len(r.W.Buf)
	tx := e.st.Begin()
	// One context for all that P executes: what a command computes lives there until the commit.
	c := point(&e.ctx, r, tx, e.cfg.Server)
	c.Walk = r.walk
	r.Cmd.Run(c)
	if r.walk = c.Walk; r.walk.More {
		return false
	}
	if tx.Writes() > 0 && e.tooFewCopies() {
		r.W.Buf = append(r.W.Buf[:mark], "-"+errCopies+"\r\n"...)
		r.gate = 0
		return true
	}
	if tx.Writes() > e.room-len(e.in.Appended) && tx.Writes() <= int(e.log.Geometry().RingSlots/4) {
		r.W.Buf = r.W.Buf[:mark]
		return false
	}
	from := len(e.in.Appended)
	appended, err := tx.Commit(e.in.Appended)
	r.gate = tx.Seen()
	switch {
	case err == nil:
		e.in.Appended = appended
		if len(appended) > from {
			r.seq = appended[len(appended)-1].Seq
			r.gate = r.seq
			r.Client.LastWrite = r.seq
		}
		return true
	case errors.Is(err, plog.ErrFull):
		r.W.Buf = append(r.W.Buf[:mark], "-"+errFull+"\r\n"...)
	case errors.Is(err, plog.ErrTooLarge):
		r.W.Buf = append(r.W.Buf[:mark], "-"+errTooLarge+"\r\n"...)
	case errors.Is(err, store.ErrGroupTooLarge):
		r.W.Buf = append(r.W.Buf[:mark], "-"+errGroup+"\r\n"...)
	default:
		r.W.Buf = r.W.Buf[:mark]
		r.W.Error("ERR " + err.Error())
	}
	return true
}

// tooFewCopies tells whether the cluster is too small for what the policy promises.
func (e *Engine) tooFewCopies() bool {
	want := e.cfg.Policy.Copies(e.cfg.Mirrors, len(e.links))
	if e.cfg.MinCopies > 0 {
		want = min(want, e.cfg.MinCopies)
	}
	return e.cfg.Policy.Mirrors(e.cfg.Mirrors, len(e.links))+1 < want
}

// release lets replies go whose gate S has reached, in the order of execution.
func (e *Engine) release() bool {
	stable := e.st.Stable()
	progress := false
	for e.gated.len() > 0 && (*e.gated.at(0)).gate <= stable {
		e.gated.pop().complete()
		progress = true
	}
	return e.stepWaits() || progress
}

func (e *Engine) stepBackup() bool {
	progress := false
	if e.view != nil {
		before := e.st.Drained()
		progress = e.st.Drain() != before
		progress = e.takeIn() || progress
	}
	if e.view != nil { // still: taking in may have found that the logs differ
		e.learn()
		before := e.st.Installed()
		e.st.Install()
		progress = e.st.Installed() != before || progress
		e.fetchMissing()
		if e.serving.Load() != 0 && e.links[0].inView {
			if e.dirty.refresh() {
				e.in.Refresh = e.bad != FaultKnownS
				progress = true
			}
			e.in.Fetch = append(e.in.Fetch, e.dirty.need...)
			e.dirty.need = e.dirty.need[:0]
		}
		if e.stepCore(false) {
			progress = true
		}
		if e.poll() {
			e.stepCore(false)
			progress = true
		}
		if e.bad == FaultKnownS && e.dirty.refreshing {
			e.resolveAsked()
		}
	}
	if e.elsewhere.Load() {
		progress = e.forward(&e.away, e.reader) || progress
	}
	return e.forward(&e.queue, 0) || progress
}

// takeIn extends the log by records whose bytes have arrived, and makes them durable.
func (e *Engine) takeIn() bool {
	e.taken = e.st.Verify(e.taken[:0], takeAtOnce)
	if err := e.st.Fault(); err != nil {
		e.stop(err)
		return false
	}
	if len(e.taken) == 0 {
		return false
	}
	e.log.Commit()
	if e.view != nil {
		e.in.Appended = append(e.in.Appended, e.taken...)
	}
	return true
}

// learn takes S and DW from this member's control page, where P posts them.
func (e *Engine) learn() {
	if s, ok := e.seqOf(e.ctl.S()); ok && s <= e.st.Drained() {
		e.st.SetStable(s)
	}
	if dw, ok := e.seqOf(e.ctl.DW()); ok {
		e.st.Everywhere(min(dw, e.log.End()))
	}
}

// seqOf is the seq in a word that another member wrote, if it is of this view's epoch.
func (e *Engine) seqOf(word uint64) (uint64, bool) {
	if e.bad == FaultAnyEpoch {
		_, seq := plog.SplitWord(word)
		return seq, true
	}
	return plog.SeqIn(word, e.view.Epoch)
}

// fetchMissing asks P for bytes when more than half of the pending table waits for them.
func (e *Engine) fetchMissing() {
	pending := e.st.Drained() - e.st.Installed()
	if pending <= e.log.Geometry().RingSlots/2 || e.now < e.missed || !e.links[0].inView {
		return
	}
	e.missed = e.now + int64(10*time.Millisecond)
	e.in.Fetch = e.st.Missing(e.in.Fetch, fetchAtOnce)
}

// stepCore gives the core what has come up, and carries out what it answers. It says whether anything was posted.
func (e *Engine) stepCore(idle bool) bool {
	if e.view == nil {
		return false // a message that came since has ended it
	}
	in, out := &e.in, &e.out
	in.Now, in.Idle = e.now, idle
	in.Drained = e.st.Drained()
	in.Asked = e.mem.Load64(e.log.Geometry().Control() + replication.OffAsk)
	in.Ask, e.asked = e.asked, false
	if e.primary() {
		e.readProgress()
	}
	e.core.Step(in, out)
	in.View, in.Refresh = nil, false
	in.Appended, in.Done, in.Fetch = in.Appended[:0], in.Done[:0], in.Fetch[:0]
	e.room = out.Room
	e.carryOut(out)
	return len(out.Posts) > 0
}

// readProgress reads what the members wrote into their lines. A word of another epoch means nothing.
func (e *Engine) readProgress() {
	for i, m := range e.view.Members {
		if m.ID == e.cfg.Self {
			continue
		}
		drained, durable, forwarded, _ := e.ctl.Peer(m.ID)
		p := &e.in.Peers[i]
		word := func(w, old uint64) uint64 {
			if seq, ok := e.seqOf(w); ok {
				return seq
			}
			return old
		}
		p.Drained, p.Durable, p.Forwarded = word(drained, p.Drained), word(durable, p.Durable), word(forwarded, p.Forwarded)
	}
}

// carryOut does what the effects say, in their order.
func (e *Engine) carryOut(out *replication.Effects) {
	epoch := e.view.Epoch
	g := e.log.Geometry()
	for i := range out.Slots {
		plog.StoreSlot(e.mem, g.SlotOff(out.Slots[i].Seq), &out.Slots[i])
	}
	if out.HasReport {
		r := out.Report
		e.ctl.SetPeer(e.cfg.Self, plog.Word(epoch, r.Drained), plog.Word(epoch, r.Durable), plog.Word(epoch, r.Forwarded), 0)
	}
	if e.primary() && e.serving.Load() != 0 {
		e.st.SetStable(out.Stable)
		e.ctl.SetS(plog.Word(epoch, out.Stable))
		e.ctl.SetDW(plog.Word(epoch, out.Every))
		e.st.Everywhere(out.Every)
		e.mem.Store64(g.Control()+replication.OffAsk, out.Ask)
	}
	if !e.primary() && e.reader == e.cfg.Self {
		e.st.SetStable(out.Stable) // it is decided here
	}
	for _, p := range out.Posts {
		e.post(&e.links[e.view.Members[p.Peer].ID], p.Ops)
	}
	if out.Fetched {
		for e.takeIn() {
		}
		e.resolveFetched()
	}
	if e.view == nil {
		return
	}
	if out.Fresh && out.FreshHere {
		e.st.Drain()
		e.resolveAsked()
	} else if out.Fresh {
		if s, ok := e.seqOf(e.mem.Load64(g.Control() + replication.OffScratch)); ok {
			e.st.Drain() // every slot up to S is visible here: S covers nothing else
			e.st.SetStable(s)
			e.resolveAsked()
		} else {
			e.dirty.restart()
		}
	}
}

func (e *Engine) done(member int, c fabric.Completion) replication.Done {
	d := replication.Done{ID: c.ID, Value: c.Value}
	for i, m := range e.view.Members {
		if m.ID == member {
			d.Peer = i
		}
	}
	return d
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
		if r.seq != 0 {
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
	e.view = nil
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
