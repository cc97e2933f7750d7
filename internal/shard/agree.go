package shard

import (
	"fmt"
	"math/bits"

	"whale/internal/cluster"
	"whale/internal/replication"
)

// Where views are elastic P agrees with the coordinator on who their members are, twice for each view: by one swap of the
// record P proposes it, by another one it makes it active. P is the only one that proposes, and is a member of every view.
// Who is well it finds out by itself: whoever is connected to P and to each other, and answers.
//
// A swap whose outcome is unknown may be carried out later still. So P never leads a view before it knows that its
// proposal is the record, and every proposal has a new epoch.

// agreement is P's side; a backup only listens.
type agreement struct {
	record  cluster.Versioned
	known   bool // record is what it was when P asked last
	sent    cluster.Proposal
	pending bool // sent has no outcome yet
	taken   bool // by the driver
	retry   int64
	trouble int64 // since when the view lacks somebody; 0: it does not
	led     bool  // this run of P has led a view
	told    bool  // why it does not
}

// Proposal is what the driver has to carry out now. It owes Decided for each, also when it gives up waiting for an answer.
func (e *Engine) Proposal() (p cluster.Proposal, ok bool) {
	a := &e.agreed
	if !a.pending || a.taken {
		return p, false
	}
	a.taken = true
	return a.sent, true
}

func (e *Engine) propose(p cluster.Proposal) {
	a := &e.agreed
	p.ID = a.sent.ID + 1
	a.sent, a.pending, a.taken = p, true, false
}

// Decided gives the engine the outcome of a proposal. The loop calls it, and steps the engine then.
func (e *Engine) Decided(o cluster.Outcome) {
	a := &e.agreed
	if !a.pending || o.ID != a.sent.ID || e.err != nil {
		return
	}
	a.pending = false
	if e.bad == FaultUnknownIsDone && o.Err != nil && a.sent.Swap {
		o = cluster.Outcome{Now: cluster.Versioned{Revision: a.sent.Revision + 1, Record: a.sent.Next}, Swapped: true}
	}
	switch {
	case o.Err != nil:
		a.known = false
		a.retry = e.now + int64(e.cfg.Elastic.Patience)
	case !e.learned(o.Now):
	case o.Swapped && a.sent.Next.Active():
		e.begin()
	case o.Swapped:
		e.lead(a.sent.Next.Epoch, set(a.sent.Next.Members))
	}
}

// Told is a change of the record that nobody asked about. The loop calls it, and steps the engine then. A backup that reads
// there that it is no member any more need not wait until its lease is over.
func (e *Engine) Told(v cluster.Versioned) {
	a := &e.agreed
	if e.cfg.Elastic == nil || e.err != nil || a.pending || v.Revision <= a.record.Revision || !e.learned(v) {
		return
	}
	if !e.primary() && e.view != nil && v.Epoch > e.log.Epoch() && !v.Has(e.cfg.Self) {
		e.leave()
		e.change.phase = idle
		e.event(fmt.Sprintf("not a member of the view of epoch %d", v.Epoch))
	}
}

// learned takes the record in. False: it makes no sense, or shows that P must not lead.
func (e *Engine) learned(v cluster.Versioned) bool {
	a := &e.agreed
	if v.Revision != 0 {
		if err := v.Validate(len(e.links)); err != nil {
			e.stop(err)
			return false
		}
	}
	a.record, a.known = v, true
	if !e.primary() {
		return true
	}
	// P stores an epoch before it becomes active. One that it does not know was another log's.
	if v.Activated > e.log.Epoch() && e.bad != FaultShortLog {
		e.stop(fmt.Errorf("the log in %s is of epoch %d, but the shard was served in epoch %d: the primary's folder was emptied or replaced. Restore the folder of %s; the shard is not served until then",
			e.name(e.cfg.Self), e.log.Epoch(), v.Activated, e.name(e.cfg.Self)))
		return false
	}
	if v.Epoch > e.change.epoch {
		e.change.wanted = true // a proposal of which nothing was heard has become the record
	}
	return true
}

// agree lets P propose what there is to propose.
func (e *Engine) agree() bool {
	a, c := &e.agreed, &e.change
	switch {
	case a.pending || e.now < a.retry:
		return false
	case !a.known:
		e.propose(cluster.Proposal{})
		return true
	case c.phase == activating && !c.wanted && a.record.Epoch == c.epoch && a.record.Active():
		e.begin()
		return true
	case c.phase == activating && !c.wanted && a.record.Epoch == c.epoch:
		e.proposeActive()
		return true
	}
	well := e.well()
	sound := c.target != 0 && !c.wanted && c.target&^well == 0
	if sound {
		a.trouble = 0
		if well == c.target || c.phase != idle {
			return false
		}
	} else {
		if a.trouble == 0 {
			a.trouble = e.now
		}
		if e.mayReturn(e.last()&^well) && e.now < a.trouble+int64(e.cfg.Elastic.Patience) {
			return false
		}
	}
	if !a.led && e.cfg.Cut && !e.witnessed(well) {
		return false
	}
	next := a.record.Record.Clone()
	next.Epoch, next.Members = max(a.record.Epoch, e.log.Epoch()), nil
	for i := range e.links {
		if well>>i&1 != 0 {
			next.Epoch = max(next.Epoch, e.reports[i].epoch)
			next.Members = append(next.Members, i)
		}
	}
	next.Epoch++
	e.propose(cluster.Proposal{Swap: true, Revision: a.record.Revision, Next: next})
	return true
}

// proposeActive proposes to make the view active: everything is where it has to be.
func (e *Engine) proposeActive() {
	next := e.agreed.record.Record.Clone()
	next.Activated = e.change.epoch
	if e.bad != FaultStaleInSync {
		next.InSync = e.inSync()
	}
	e.propose(cluster.Proposal{Swap: true, Revision: e.agreed.record.Revision, Next: next})
}

// inSync is E of the view: P, and those at which everything has to be durable.
func (e *Engine) inSync() (set []cluster.Replica) {
	for i, m := range e.view.Members {
		if i <= e.view.Mirrors || e.view.Policy != replication.Mirror {
			r := cluster.Replica{ID: m.ID, Incarnation: e.reports[m.ID].incarnation}
			if m.ID == e.cfg.Self {
				r.Incarnation = e.cfg.Incarnation
			}
			set = append(set, r)
		}
	}
	return set
}

// last are the members of the record's view; all, before there is one.
func (e *Engine) last() uint64 {
	if e.agreed.record.Revision == 0 {
		return e.allLinks()
	}
	return set(e.agreed.record.Members)
}

// mayReturn tells whether there is somebody among the lost whom P has not been patient with: who is silent has had its time.
func (e *Engine) mayReturn(lost uint64) bool {
	for i := range e.links {
		if lost>>i&1 != 0 && !e.silent(i) {
			return true
		}
	}
	return false
}

// well are the members of the view that P would form now: P itself, and of the others, first those of the present view, all
// that answer P and are connected to P and to each other.
func (e *Engine) well() uint64 {
	chosen := uint64(1) << e.cfg.Self
	for _, present := range [...]bool{true, false} {
		for i := range e.links {
			r := &e.reports[i]
			if i == e.cfg.Self || e.change.target>>i&1 != 0 != present ||
				e.links[i].conn == nil || !r.valid || e.leases[i].heard == 0 || e.silent(i) || chosen&^r.links != 0 {
				continue
			}
			others := chosen &^ (1 << e.cfg.Self)
			for ; others != 0 && e.reports[bits.TrailingZeros64(others)].links>>i&1 != 0; others &= others - 1 {
			}
			if others == 0 {
				chosen |= 1 << i
			}
		}
	}
	return chosen
}

// witnessed tells whether somebody besides P can say how far P's log went before a part of it was cut off: a member of E that
// has kept its own. Nobody can where P was alone, and nobody else will where all are there.
func (e *Engine) witnessed(well uint64) bool {
	a := &e.agreed
	others := 0
	for _, m := range a.record.InSync {
		if m.ID == e.cfg.Self {
			continue
		}
		if others++; well>>m.ID&1 != 0 && e.reports[m.ID].epoch >= a.record.Activated {
			return true
		}
	}
	if others == 0 || well == e.allLinks() || e.bad == FaultShortLog {
		return true
	}
	if !a.told {
		a.told = true
		e.event("the end of the primary's log was cut off: it waits for a member that held every committed record")
	}
	return false
}

// wakeAgreement is when something is due of what is agreed on, or might be; 0: nothing.
func (e *Engine) wakeAgreement(at func(int64)) {
	c, a := e.cfg.Elastic, &e.agreed
	if c == nil {
		return
	}
	later := func(t int64) {
		if t > e.now { // what was due before has been looked at in this step
			at(t)
		}
	}
	if e.asks() {
		later(e.nextAsk)
	}
	if !e.primary() {
		return
	}
	later(a.retry)
	if a.trouble != 0 {
		later(a.trouble + int64(c.Patience))
	}
	if e.change.phase == resending {
		later(e.outlast())
	}
	for i := range e.leases {
		if e.change.target>>i&1 != 0 && e.leases[i].unanswered != 0 {
			later(e.leases[i].unanswered + int64(c.Patience))
		}
	}
}

// set is a set of members, a bit each.
func set(members []int) (s uint64) {
	for _, id := range members {
		s |= 1 << id
	}
	return s
}
