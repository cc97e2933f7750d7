package shard

import "time"

func (e *Engine) stepBackup() bool {
	progress := false
	if e.view != nil {
		before := e.st.Drained()
		progress = e.st.DrainSome(takeAtOnce) != before
		progress = e.takeIn() || progress
	}
	if e.view != nil { // still: taking in may have found that the logs differ
		e.learn()
		before := e.st.Installed()
		e.st.Install(takeAtOnce)
		progress = e.st.Installed() != before || progress
		e.fetchMissing()
		if e.serving.Load() != 0 && e.links[0].inView && (e.leased() || e.bad == FaultNoLease) {
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

// Urgency is who waits for what a member does.
type Urgency uint8

const (
	Urgent Urgency = iota // somebody does
	Soon                  // nobody yet; but P will, when its ring is full of what this backup has not taken in
	Later                 // nobody
)

// Urgency of the next step. If it is not urgent, the driver may let others have the processor first.
func (e *Engine) Urgency() Urgency {
	switch {
	case e.primary() || e.view == nil || e.queue.len()+e.away.len()+e.dirty.len()+len(e.relay.waiting) > 0:
		return Urgent
	case e.st.Drained()-e.st.Installed() >= e.log.Geometry().RingSlots/4:
		return Soon
	}
	return Later
}

// takeIn extends the log by records whose bytes have arrived, and makes them durable.
func (e *Engine) takeIn() bool {
	e.taken = e.st.Verify(e.taken[:0], takeAtOnce, takeBytes)
	if err := e.st.Fault(); err != nil {
		e.stop(err)
		return false
	}
	if len(e.taken) == 0 {
		return false
	}
	if e.bad != FaultNoCommitBackup {
		e.log.Commit()
	}
	if e.view != nil {
		e.in.Appended = append(e.in.Appended, e.taken...)
	}
	return true
}

// learn takes S and DW from this member's control page, where P posts them.
//
// Before the view is active nobody reads here, and all of P's log is adopted: what has come of it is installed at once. A
// member that lacks more records than the pending table holds could not catch up otherwise.
func (e *Engine) learn() {
	if e.serving.Load() == 0 {
		e.st.SetStable(min(e.view.End, e.log.End()))
	}
	if s, ok := e.seqOf(e.ctl.S()); ok && s <= e.st.Drained() {
		e.st.SetStable(s)
	}
	if dw, ok := e.seqOf(e.ctl.DW()); ok {
		e.st.Everywhere(min(dw, e.log.End()))
	}
}

// lateBytes watches over bytes that are to come through the chain.
type lateBytes struct {
	look  int64  // when to look whether any have come; 0: there is nothing to look for
	end   uint64 // of the log, at the last look
	asked bool   // P was asked for some, and nothing has come of that yet
}

const lateAfter = int64(10 * time.Millisecond)

// wake is when to look; 0: whatever is there to wait for wakes the loop itself. What does not come wakes nobody.
func (l *lateBytes) wake() int64 {
	if l.asked {
		return 0
	}
	return l.look
}

// fetchMissing asks P for bytes when more than half of the pending table waits for them and none have come for a while:
// whoever was to forward them is stuck. While they do come, even if too slowly, P has nothing to do with it: the table
// fills up, and that holds it back.
func (e *Engine) fetchMissing() {
	l, end := &e.late, e.log.End()
	pending := e.st.Drained() - e.st.Installed()
	switch {
	case pending <= e.log.Geometry().RingSlots/2 || !e.links[0].inView:
		l.look = 0
	case l.look == 0 || e.now >= l.look && l.end != end && e.bad != FaultFetchLate:
		l.look, l.end = e.now+lateAfter, end
	case e.now >= l.look && !l.asked:
		asked := len(e.in.Fetch)
		e.in.Fetch = e.st.Missing(e.in.Fetch, fetchAtOnce)
		l.look, l.asked = e.now+lateAfter, len(e.in.Fetch) > asked
	}
}
