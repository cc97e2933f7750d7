package shard

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Leases (docs/protocol.md). Where views are elastic a member answers reads only while it holds leases: a backup P's, P
// those of all backups of the view. So a member that was left out of a view, and does not know it, has stopped answering
// by the time at which the next view begins.
//
// Who wants a lease asks, and is answered. The holder counts from before it asked. The giver writes the promise down
// before it answers, counts it from when the question was here, and makes it longer by what clocks may drift. P promises
// nothing beyond the end of the leases that it holds itself. A lease is of one epoch: it ends when its holder leaves the
// view. Promises outlive views.
//
// P asks every member that it is connected to, also those outside the view: an answer shows that the way is open in both
// directions, and its absence that it is not.

// Elastic says how views change their members. All times are of the members' own monotonic clocks.
type Elastic struct {
	// Lease is how long a lease lasts. All members have the same, and none had a longer one in an earlier run: P, when it
	// starts, waits out what it may have promised by this.
	Lease time.Duration
	// Drift bounds how many parts in a million any member's clock runs too fast or too slow.
	Drift float64
	// Patience is how long P waits for a member that it has lost, or that is silent, before it proposes a view without it.
	Patience time.Duration
	// Clock is the monotonic clock of Step's now, in nanoseconds. Any goroutine calls it.
	Clock func() int64
}

func (c *Elastic) validate() error {
	switch {
	case c.Lease <= 0 || c.Patience <= 0:
		return fmt.Errorf("shard: a lease of %v and a patience of %v: both must be above zero", c.Lease, c.Patience)
	case !(c.Drift >= 0 && c.Drift <= 500_000):
		return fmt.Errorf("shard: clocks that drift by %v parts in a million: possible are 0 to 500000", c.Drift)
	case c.Clock == nil:
		return errors.New("shard: leases need a clock")
	}
	return nil
}

// stretch is how long a clock must show before any other has shown d: between one that is as fast as may be and one that is
// as slow. That is enough for a lease that follows from another one, too: the clocks of its giver, its holder and of who
// waits for its end are at most that far apart, for no part of the time is counted by more than one of the first two.
func (c *Elastic) stretch(d int64) int64 {
	drift := c.Drift / 1e6
	return d + int64(float64(d)*2*drift/(1-drift)) + 2 // what rounding takes
}

// forever is the end of leases in a fixed view, and of those of a P that is alone in one.
const forever = math.MaxInt64

// lease is what this member and another one have of each other.
type lease struct {
	held     int64 // until then this member has the other's word, in this epoch
	promised int64 // until then the other one may have this member's, in whatever epoch

	// Of this connection.
	asked      int64 // when this member asked last
	unanswered int64 // when it asked first of what is not answered yet; 0: all is
	heard      int64 // when it had asked what was answered last; 0: nothing was

	waits    bool // (P) the other one's question has no answer yet
	token    int64
	received int64
}

// leased tells whether reads may be answered here, with the value in hand. The driver's now will not do: the process may
// have been stopped since.
func (e *Engine) leased() bool {
	until := e.until.Load()
	return until == forever || e.cfg.Elastic != nil && e.cfg.Elastic.Clock() < until
}

// beginLeases follows the activation of a view: from here on leases are asked for, and given.
func (e *Engine) beginLeases() {
	c := e.cfg.Elastic
	if c == nil || e.primary() && len(e.view.Members) == 1 {
		e.until.Store(forever)
		return
	}
	e.leasesFrom = c.Clock()
	e.nextAsk = e.now
}

// endLeases: those of a view end with it. What was promised stays promised.
func (e *Engine) endLeases() {
	e.until.Store(0)
	for i := range e.leases {
		e.leases[i].held, e.leases[i].waits = 0, false
	}
}

// connectionLeases forgets what was asked over a connection that is gone.
func (e *Engine) connectionLeases(member int) {
	l := &e.leases[member]
	l.asked, l.unanswered, l.heard, l.waits = 0, 0, 0, false
	if e.cfg.Elastic != nil {
		e.nextAsk = e.now
	}
}

// asks tells whether it is this member's to ask now and then.
func (e *Engine) asks() bool {
	return e.cfg.Elastic != nil && (e.primary() || e.serving.Load() != 0)
}

// askLeases asks when a third of a lease has passed since the last time.
func (e *Engine) askLeases() bool {
	if !e.asks() || e.now < e.nextAsk {
		return false
	}
	c := e.cfg.Elastic
	e.nextAsk = e.now + int64(c.Lease)/3
	for i := range e.links {
		if e.links[i].conn == nil || !e.primary() && i != 0 {
			continue
		}
		l := &e.leases[i]
		l.asked = c.Clock()
		if l.unanswered == 0 {
			l.unanswered = l.asked
		}
		e.send(i, msgAsk, e.serving.Load(), uint64(l.asked))
	}
	return true
}

// leaseAsked is another member's wish for a lease of an epoch. A backup gives P one at once, or says that it is in another
// epoch; P answers when it may.
func (e *Engine) leaseAsked(from int, epoch uint32, token int64) {
	c := e.cfg.Elastic
	if c == nil {
		return
	}
	serving := e.serving.Load()
	now := c.Clock() // not the step's, which may be older than the question
	switch {
	case e.primary() && e.bad == FaultRenewExpelled:
		e.promise(from, epoch, token, now, int64(c.Lease))
	case e.primary():
		if epoch != 0 && epoch == serving && e.change.target>>from&1 != 0 {
			l := &e.leases[from]
			l.waits, l.token, l.received = true, token, now
			e.giveLeases()
		}
	case from != 0:
	case epoch != 0 && epoch == serving:
		e.promise(0, epoch, token, now, int64(c.Lease))
	default:
		e.send(0, msgGrant, serving, uint64(token), uint64(0))
	}
}

// promise writes down that a lease is given, and then gives it.
func (e *Engine) promise(to int, epoch uint32, token, from, length int64) {
	l := &e.leases[to]
	switch e.bad {
	case FaultNoPromise:
	case FaultPromiseUnstretched:
		l.promised = max(l.promised, from+length)
	default:
		l.promised = max(l.promised, from+e.cfg.Elastic.stretch(length))
	}
	e.send(to, msgGrant, epoch, uint64(token), uint64(length))
}

// giveLeases answers at P what backups have asked, as long as P holds leases of all of them. What it gives ends no later
// than the first of those, so that who waits until its own promise to P is over has waited for those of P, too.
func (e *Engine) giveLeases() {
	if e.serving.Load() == 0 {
		return
	}
	until := e.until.Load()
	for _, m := range e.view.Members[1:] {
		l := &e.leases[m.ID]
		length := min(int64(e.cfg.Elastic.Lease), until-l.received)
		if e.bad == FaultLeaseUnbounded {
			length = int64(e.cfg.Elastic.Lease)
		}
		if l.waits && length > 0 {
			l.waits = false
			e.promise(m.ID, e.serving.Load(), l.token, l.received, length)
		}
	}
}

// leaseGiven is the answer. A lease of no length says only that the other one is there. False: it answers nothing that was
// asked.
func (e *Engine) leaseGiven(from int, epoch uint32, token, length int64) bool {
	l := &e.leases[from]
	c := e.cfg.Elastic
	if c == nil || token <= 0 || token > l.asked || length < 0 {
		return false
	}
	l.heard = max(l.heard, token)
	if l.unanswered <= token {
		l.unanswered = 0
		if token < l.asked {
			l.unanswered = l.asked
		}
	}
	serving := e.serving.Load()
	if e.primary() && serving != 0 && epoch != serving && token > e.leasesFrom && e.change.target>>from&1 != 0 {
		e.change.wanted = true // it was asked behind ACTIVE, and has left the view since
	}
	if serving == 0 || length == 0 || (epoch != serving || token < e.leasesFrom) && e.bad != FaultAnyLease {
		return true
	}
	end := token + min(length, int64(c.Lease))
	if e.bad == FaultHeldFromAnswer {
		end = c.Clock() + length
	}
	l.held = max(l.held, end)
	if !e.primary() {
		e.until.Store(l.held)
		return true
	}
	until := int64(forever)
	for _, m := range e.view.Members[1:] {
		until = min(until, e.leases[m.ID].held)
	}
	e.until.Store(until)
	e.giveLeases()
	return true
}

// outlast is when the last lease has run out that this member gave to anybody outside the view.
func (e *Engine) outlast() (end int64) {
	for i := range e.leases {
		if e.change.target>>i&1 == 0 && e.bad != FaultNoLeaseWait {
			end = max(end, e.leases[i].promised)
		}
	}
	return end
}

// silent tells whether a member has not answered for longer than P is patient. A P that was stopped itself takes what has
// come meanwhile before it looks.
func (e *Engine) silent(member int) bool {
	since := e.leases[member].unanswered
	return since != 0 && e.now-since >= int64(e.cfg.Elastic.Patience)
}

// Lease is what this member holds of another one's word, and has promised it, as ends on this member's own clock; 0: nothing.
func (e *Engine) Lease(member int) (held, promised int64) {
	return e.leases[member].held, e.leases[member].promised
}
