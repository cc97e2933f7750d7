package shard

import (
	"errors"

	"whale/internal/plog"
	"whale/internal/store"
)

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

// intact tells whether there is a view and its connections all stand. While they do not, S cannot move and nothing is appended.
func (e *Engine) intact() bool {
	if e.view == nil {
		return false
	}
	for _, m := range e.view.Members {
		if m.ID != e.cfg.Self && !e.links[m.ID].inView {
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
		if r.seesAllKeys() && !e.keepExpired && e.st.Overdue() {
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
	if len(e.in.Appended) > 0 && e.bad != FaultNoCommit {
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
	if r.Multi != nil {
		e.transact(c, r, tx)
	} else {
		r.Cmd.Run(c)
	}
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

// tooFewCopies tells whether the view has too few members for what the policy promises to a whole cluster.
func (e *Engine) tooFewCopies() bool {
	want := e.cfg.Policy.Copies(e.cfg.Mirrors, len(e.links))
	if e.cfg.MinCopies > 0 {
		want = min(want, e.cfg.MinCopies)
	}
	return e.view.Mirrors+1 < want
}

// release lets replies go whose gate S has reached, in the order of execution. That a write is committed needs no lease: the
// members' completions are proof enough. What only was read does: the lease is looked at here, with the value in hand.
func (e *Engine) release() bool {
	stable := e.st.Stable()
	progress, leased := false, e.bad == FaultNoLeaseAtP
	for e.gated.len() > 0 && (*e.gated.at(0)).gate <= stable {
		if r := *e.gated.at(0); r.seq == 0 && !leased {
			if leased = e.leased(); !leased {
				break
			}
		}
		e.gated.pop().complete()
		progress = true
	}
	return e.stepWaits() || progress
}
